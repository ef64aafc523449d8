"""Schedules give torch's rates, trace, and say what is wrong with their arguments."""

import pytest
import torch
from helpers import same_bits, same_number
from helpers.refusals import refusals
from helpers.schedules import SCHEDULES, TABLE
from torch.fx.experimental.proxy_tensor import make_fx

import lincoln_fn as lf
from lincoln_fn import schedules as of


@pytest.mark.parametrize(("ours", "theirs", "steps"), TABLE, ids=[str(row[0]) for row in TABLE])
def test_gives_torchs_rates(ours, theirs, steps):
    optimizer = torch.optim.SGD([torch.zeros(1, requires_grad=True)], 0.5)
    scheduler, expected = theirs(optimizer), []
    for _ in range(steps):
        expected.append(scheduler.get_last_lr()[0])
        optimizer.step()
        scheduler.step()
    expected = torch.tensor(expected, dtype=torch.float64)
    given = torch.stack([ours(torch.tensor(step)) for step in range(steps)])
    assert same_number((given, ours(torch.arange(steps))), (expected, given))
    assert same_number(ours(steps - 1), given[-1])


@pytest.mark.parametrize("ours", SCHEDULES, ids=str)
def test_traces(ours):
    traced = make_fx(ours, tracing_mode="fake")(torch.tensor(0))
    for step in (0, 1, 4, 8, 9, 20, 29, 100):
        step = torch.tensor(step)
        assert same_bits(traced(step), ours(step))
        assert ours(step).shape == ()


@pytest.mark.parametrize("ours", SCHEDULES, ids=str)
def test_names_are_code(ours):
    names = {name: getattr(of, name) for name in of.__all__}
    again = eval(repr(ours), names)
    assert repr(again) == repr(ours)
    assert same_bits(again(torch.arange(30)), ours(torch.arange(30)))


def test_the_table_lists_every_schedule():
    listed = {repr(schedule).partition("(")[0] for schedule in SCHEDULES}
    assert listed == set(of.__all__) - {"Schedule"}


@pytest.mark.parametrize(("ours", "last"), [
    (of.cosine(0.5, 20, 0.1), 0.1), (of.linear(0.5, 0.2, 3), 0.2), (of.polynomial(0.5, 9), 0.0),
    (of.one_cycle(0.5, 30), 0.5 / 25 / 1e4), (of.linear_warmup(0.5, 3), 0.5),
    (of.wsd(0.5, 3, 2, 4, 0.1), 0.1), (of.piecewise((0.5, 0.25), (3,)), 0.25),
], ids=str)  # fmt: skip
def test_stays_where_it_ends(ours, last):
    assert same_number(ours(10_000).item(), last)


def test_exponential_falls_evenly_without_a_staircase():
    rates = of.exponential(1.0, 0.25, every=2)(torch.arange(5))
    assert same_number(rates, torch.tensor([1, 0.5, 0.25, 0.125, 0.0625]).double())


def test_warm_up_lets_what_follows_wait():
    ours = of.linear_warmup(lambda step: 1.0 + step, 4, start_factor=0.0)
    assert ours(torch.tensor([0, 2, 4, 5])).tolist() == [0.0, 0.5, 1.0, 2.0]


def test_a_function_within_a_schedule_takes_whole_steps():
    table = torch.tensor([0.5, 0.25, 0.125], dtype=torch.float64)
    steps = torch.tensor([0, 1, 2])
    warm = of.linear_warmup(lambda step: table[step], 1, start_factor=0.5)
    assert warm(steps).tolist() == [0.25, 0.5, 0.25]
    first = of.joined((lambda step: table[step], of.constant(1.0)), (2,))
    assert first(steps).tolist() == [0.5, 0.25, 1.0]
    second = of.joined((of.constant(1.0), lambda step: table[step]), (2,))
    assert second(steps + 1).tolist() == [1.0, 0.5, 0.25]


test_arguments_out_of_range_are_named = refusals("""
of.piecewise((1.0, 0.5), (3, 2)) -> ^piecewise: expected 1 boundaries that rise from above 0, got
    (3, 2)$
of.joined((of.constant(1.0), of.constant(2.0)), (0,)) -> ^joined: expected boundaries[0] of at least
    1, got 0$
of.wsd(1.0, 3, 2, 4, 2.0) -> ^wsd: expected lr_min of at most lr, got 2.0$
of.one_cycle(1.0, 2, 0.5) -> ^one_cycle: expected total_steps and pct_start that make phases of at
    least a step, got (2, 0.5)$
""")


def test_a_scheduled_step_resumes_at_its_rate():
    optimizer = lf.optim.sgd(of.piecewise((1.0, 0.1), (2,)))
    params, state = torch.tensor(0.0), optimizer.init(torch.tensor(0.0))
    positions = []
    for _ in range(4):
        params, state = optimizer.update(params, torch.tensor(-1.0), state)
        positions.append(round(params.item(), 4))
    assert positions == [1.0, 2.0, 2.1, 2.2]
