"""Pipelines: the plan of one is simulated, and that of a character model trains."""

import json
import re
from pathlib import Path

import pytest
import torch
from helpers.compare import same_number
from helpers.examples import run_in_two_processes
from helpers.pipelines import SCHEDULES

import lincoln_fn as lf
from lincoln_fn.distributed import gpipe, zero_bubble_h2

GUIDE = Path(__file__).parents[2] / "docs/guides/pipelines.md"


@pytest.fixture
def ours(example):
    """Give the example's module, which has the names of the simulation, too."""
    return example("pipeline_plan")


def test_the_guide_shows_what_it_prints(run):
    lines = run("pipeline_plan", "--equal", "--stages", 4, "--microbatches", 12)
    shown = GUIDE.read_text().partition("```output\n")[2].partition("```")[0]
    assert lines == shown.splitlines()


@pytest.mark.parametrize(("p", "m"), [(2, 3), (3, 5), (4, 7), (4, 12), (8, 32)])
def test_stages_wait_as_long_as_the_formulas_of_qi_et_al_say(p, m, ours):
    f, b, w = 1.0, 1.25, 0.75
    stages = [ours.Stage(ours.Times(f, b, w))] * p

    def waits(name, **options):
        made = ours.plan(SCHEDULES[name](p, m), stages, **options)
        assert same_number(made.bubble, (made.period - m * (f + b + w)) / (m * (f + b + w)))
        return made.period - m * (f + b + w)

    for name in ("gpipe", "1f1b"):
        assert same_number(waits(name, joint_backward=True), (p - 1) * (f + b + w))
        assert same_number(waits(name), (p - 1) * (f + b))
    assert same_number(waits("h1"), (p - 1) * (f + b - w))
    assert same_number(waits("h2"), (p - 1) * (f + b - 2 * w))
    equal = ours.plan(zero_bubble_h2(p, m), [ours.Stage()] * p)
    assert (equal.bubble, equal.period) == (0, 3 * m)
    assert equal.makespan == 3 * m + p - 1  # the stages end one after the other


def test_transfers_take_time_in_both_directions(ours):
    times = ours.Times(1.0, 2.0, 4.0, send=0.5), ours.Times(8.0, 16.0, 32.0)
    made = ours.plan(gpipe(2, 1), [*map(ours.Stage, times)])
    assert [(each.stage, each.kind, each.begin, each.end) for each in made.intervals] == [
        (0, "F", 0.0, 1.0), (1, "F", 1.5, 9.5), (1, "B", 9.5, 25.5), (1, "W", 25.5, 57.5),
        (0, "B", 26.0, 28.0), (0, "W", 28.0, 32.0),
    ]  # fmt: skip


def test_a_measured_plan_has_the_memory_of_each_stage(ours):
    layers, link = (lf.dense(8), lf.serial(lf.relu(), lf.dense(2))), ours.Link(0.25, 32.0)
    stages = ours.measure(layers, torch.ones(4, 3), link, repeats=1)
    made = ours.plan(gpipe(2, 5), stages, link, pipelines=3)
    first, second = (3 * 8 + 8) * 4, (8 * 2 + 2) * 4
    assert made.bytes[0] == first + 5 * (4 * 3 + 4 * 8) * 4  # x and g of each microbatch
    assert made.bytes[1] >= second + 5 * (4 * 8 + 4 * 2) * 4
    assert [each.times.send for each in stages] == [0.25 + 4 * 8 * 4 / 32, 0.0]
    assert all(min(each.times.F, each.times.B, each.times.W) > 0 for each in stages)
    *actions, of_first, of_second = made.intervals
    for own, params in ((of_first, first), (of_second, second)):
        assert own.begin == max(each.end for each in actions if each.stage == own.stage)
        assert same_number(own.seconds, 0.5 + params * 4 / 3 / 32)
    assert made.makespan == max(of_first.end, of_second.end)


def test_wrong_plans_are_refused(ours):
    for call, message in (
        (lambda: ours.plan(gpipe(2, 2), [ours.Stage()] * 4), "expected 4 stages, got"),
        (lambda: ours.split_into_stages(lf.serial(lf.relu()), torch.ones(1), 2), "from 1 to 1 sta"),
        (lambda: ours.measure_link(lf.distributed.alone(), torch.ones(3)), "at least 2 processes"),
        (lambda: ours.plan(((("F", 0),),), [ours.Stage()]), "got F0 at position 0"),
    ):
        with pytest.raises(ValueError, match=message):
            call()


@pytest.mark.full
def test_it_measures_the_network_and_saves_the_pictures(run, picture, tmp_path):
    trace = tmp_path / "plan.json"
    options = ["--stages", 2, "--microbatches", 3, "--repeats", 1, "--pipelines", 2, "--cut"]
    lines = run("pipeline_plan", *options, "--plot", picture, "--trace", trace)
    assert [line.split()[:2] for line in lines[1:]] == [
        ["1f1b-joint", "33.3%"], ["gpipe", "22.2%"], ["1f1b", "22.2%"], ["h1", "11.1%"],
        ["h2", "0.0%"],
    ]  # fmt: skip
    assert len(json.loads(trace.read_text())["traceEvents"]) == 2 + 2 * 3 * 3 + 2


@pytest.mark.full
def test_the_first_of_two_processes_prints_their_link():
    printed = run_in_two_processes("pipeline_plan.py", "--equal")
    assert [line.split()[0] for line in printed.splitlines()] == [
        "latency", "schedule", "1f1b-joint", "gpipe", "1f1b", "h1", "h2",
    ]  # fmt: skip


OPTIONS = ["--steps", "2", "--sample", "7"]


@pytest.mark.full
def test_it_learns_what_the_tied_network_learns_in_one_piece(example):
    module, characters = example("char_gpt_pipeline"), example("characters")
    text = characters.load_text()
    stages = module.make_stages(len(text.alphabet))
    net, reduce = lf.distributed.pipeline(
        stages, lf.distributed.zero_bubble_h2(4, 3), lf.distributed.alone(), tied=module.TIED,
        max_norm=1.0,
    )  # fmt: skip
    embedding, *first = stages[0].parts
    block, norm, _, order = stages[3].parts
    whole = lf.serial(lf.tied(embedding, lf.serial(*first, *stages[1:3], block, norm)), order)
    optimizer, loss = lf.optim.sgd(0.5), lf.losses.softmax_cross_entropy()
    clipped = lf.optim.chain(lf.optim.clip_by_global_norm(1.0), optimizer)
    state = lf.init_state(net, optimizer, lf.Key(0), text.train[None, :16])
    (table, *rest), second, third, (last, scale, _, _) = state.params
    params = ((table, (*rest, second, third, last, scale)), ())
    theirs = lf.init_state(whole, clipped, lf.Key(0), text.train[None, :16], params=params)
    step = lf.make_step(net, loss, optimizer, reduce=reduce)
    their_step = lf.make_step(whole, loss, clipped)
    losses = []
    for batch in characters.random_windows(text.train, 4, 16, 10, lf.Key(1)):
        state, value = step(state, batch)
        theirs, expected = their_step(theirs, batch)
        assert same_number(value, expected)
        losses.append(value.item())
    assert losses[-1] < losses[0] - 0.5


@pytest.mark.full
def test_two_processes_print_what_one_prints(example, capsys):
    example("char_gpt_pipeline").main(OPTIONS)
    printed = capsys.readouterr().out
    ours, bigram = map(
        float, re.search(r"Held out: (\S+) bits .* model (\S+)\.\n", printed).groups()
    )
    assert 2 < bigram < 4 < ours < 8
    assert len(printed.partition("A sample:\n")[2]) == 7 + 1
    options = *OPTIONS, "--schedule", "gpipe"
    assert run_in_two_processes("char_gpt_pipeline.py", *options) == printed
