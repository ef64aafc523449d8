"""Schedules of a pipeline: their bubbles are those of Qi et al., and wrong ones are refused."""

import re

import pytest
from helpers.compare import same_number

from lincoln_fn.distributed.pipeline_parallel.schedules import (
    gpipe,
    one_f_one_b,
    zero_bubble_h1,
    zero_bubble_h2,
)
from lincoln_fn.distributed.pipeline_parallel.simulation import Times, check_schedule, simulate

SIZES = [(2, 3), (3, 5), (4, 7), (4, 12), (8, 32)]
UNEQUAL = Times(F=1.0, B=1.25, W=0.75)


def waiting(schedule, times, **options):
    """Return how long the slowest stage takes beyond its own actions."""
    run = simulate(schedule, [times] * len(schedule), **options)
    own = [[each for each in run if each.stage == stage] for stage in range(len(schedule))]
    period = max(each[-1].end - each[0].begin for each in own)
    return period - len(schedule[0]) / 3 * (times.F + times.B + times.W)


@pytest.mark.parametrize("make", [gpipe, one_f_one_b])
@pytest.mark.parametrize(("p", "m"), SIZES)
def test_gpipe_and_1f1b_wait_for_one_backward_of_each_other_stage(make, p, m):
    joint = waiting(make(p, m), UNEQUAL, joint_backward=True)
    assert same_number(joint, (p - 1) * (UNEQUAL.F + UNEQUAL.B + UNEQUAL.W))
    assert same_number(waiting(make(p, m), UNEQUAL), (p - 1) * (UNEQUAL.F + UNEQUAL.B))
    relative = waiting(make(p, m), Times(), joint_backward=True) / (3 * m)
    assert same_number(relative, (p - 1) / m)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_each_w_fills_time_of_its_own_length(p, m):
    once = (p - 1) * (UNEQUAL.F + UNEQUAL.B - UNEQUAL.W)
    assert same_number(waiting(zero_bubble_h1(p, m), UNEQUAL), once)
    assert same_number(waiting(zero_bubble_h2(p, m), UNEQUAL), once - (p - 1) * UNEQUAL.W)


@pytest.mark.parametrize(("p", "m"), SIZES)
def test_h2_does_not_wait(p, m):
    assert waiting(zero_bubble_h2(p, m), Times()) == 0
    run = simulate(zero_bubble_h2(p, m), [Times()] * p)
    assert max(each.end for each in run) == 3 * m + p - 1  # the stages end one after the other


@pytest.mark.parametrize(("p", "m"), [*SIZES, (1, 1), (1, 4), (4, 1), (4, 3), (5, 2)])
def test_stages_keep_as_many_caches_as_the_schedules_say(p, m):
    assert check_schedule(gpipe(p, m)) == (m,) * p
    assert check_schedule(one_f_one_b(p, m)) == tuple(min(p - s, m) for s in range(p))
    assert check_schedule(zero_bubble_h1(p, m)) == (min(p, m),) * p
    assert check_schedule(zero_bubble_h2(p, m)) == (min(2 * p - 1, m),) * p


def test_transfers_take_time_in_both_directions():
    run = simulate(gpipe(2, 1), [Times(1.0, 2.0, 4.0, send=0.5), Times(8.0, 16.0, 32.0)])
    assert [(each.stage, each.kind, each.begin, each.end) for each in run] == [
        (0, "F", 0.0, 1.0), (1, "F", 1.5, 9.5), (1, "B", 9.5, 25.5), (1, "W", 25.5, 57.5),
        (0, "B", 26.0, 28.0), (0, "W", 28.0, 32.0),
    ]  # fmt: skip


def test_a_schedule_of_ones_own_is_a_tuple():
    own = (
        (("F", 0), ("F", 1), ("B", 1), ("B", 0), ("W", 0), ("W", 1)),
        (("F", 1), ("F", 0), ("B", 1), ("B", 0), ("W", 1), ("W", 0)),
    )
    assert check_schedule(own, stages=2, microbatches=2, limit=2) == (2, 2)


F0, F1, B0, B1, W0, W1 = (("F", 0), ("F", 1), ("B", 0), ("B", 1), ("W", 0), ("W", 1))
GOOD = F0, F1, B0, W0, B1, W1


@pytest.mark.parametrize(
    ("schedule", "options", "message"),
    [
        ([GOOD], {}, "expected a tuple for each stage, got list"),
        ((), {}, "expected a tuple for each stage, got ()"),
        ((GOOD, 7), {}, "expected a tuple for stage 1, got 7"),
        ((GOOD,), {"stages": 2}, "expected 2 stages, got 1; make it for 2 stages"),
        (((F0, ("X", 0)),), {}, 'an action such as ("F", 0) at position 1 of stage 0, got '),
        (((F0, ("B", -1)),), {}, 'an action such as ("F", 0) at position 1 of stage 0, got '),
        (((F0, B0),), {}, "expected F0, B0, W0 in stage 0, each once and in this order, got F0"),
        ((GOOD, GOOD[:5]), {}, "in stage 1, each once and in this order, got F1 at position 1, "),
        ((GOOD, (F0, B0, W0)), {}, "F1, B1, W1 in stage 1, each once and in this order, got none"),
        (((F0, F0),), {}, "in this order, got F0 at position 0, F0 at position 1"),
        (((B0, F0, W0),), {}, "got B0 at position 0, F0 at position 1, W0 at position 2"),
        (((F0, W0, B0),), {}, "got F0 at position 0, W0 at position 1, B0 at position 2"),
        ((GOOD,), {"microbatches": 1}, "microbatches from 0 to 0, got F1 at position 1"),
        ((GOOD,), {"limit": 1}, "at most 1 cache in stage 0, got 2; put W earlier"),
        (
            ((F0, B0, W0, F1, B1, W1), GOOD),
            {},
            "B0 of stage 0 (position 1) waits for B0 of stage 1 (position 2); "
            "F1 of stage 1 (position 1) waits for F1 of stage 0 (position 3); move one of them",
        ),
    ],
)  # fmt: skip
def test_a_schedule_that_cannot_run_is_refused(schedule, options, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        check_schedule(schedule, **options)


def test_a_simulation_refuses_an_action_that_waits_for_none():
    with pytest.raises(ValueError, match=r"schedule: expected F1, B1, W1 in stage 0, .* got none"):
        simulate(((F0, B0, W0), GOOD), [Times()] * 2)
