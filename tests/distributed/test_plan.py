"""Plans: simulated steps, their pictures and traces, and networks cut into stages."""

import json
from itertools import pairwise

import pytest
import torch
from helpers.compare import same_number
from helpers.pipelines import mixed, mixed_batch

import lincoln_fn as lf
from lincoln_fn.distributed import Link, Times, gpipe, measure, one_f_one_b, plan, split_into_stages
from lincoln_fn.distributed.pipeline_parallel.measurement import _cuts
from lincoln_fn.plots import timeline

ONES = [Times()] * 4


def test_bubbles_are_those_of_qi_et_al():
    p, m, h1 = 4, 12, lf.distributed.zero_bubble_h1
    joint = plan((), None, one_f_one_b(p, m), times=ONES, joint_backward=True)
    assert same_number(joint.bubble, (p - 1) / m)
    assert same_number(plan((), None, gpipe(p, m), times=ONES).bubble, 2 / 3 * (p - 1) / m)
    assert same_number(plan((), None, h1(p, m), times=ONES).bubble, (p - 1) / 3 / m)
    h2 = plan((), None, lf.distributed.zero_bubble_h2(p, m), times=ONES)
    assert (h2.bubble, h2.period, h2.makespan) == (0, 3 * m, 3 * m + p - 1)
    assert h2.peak_caches == (7, 7, 7, 7)
    assert "bubble=0.0%" in repr(h2)


def test_the_slowest_stage_sets_the_period():
    slow = plan((), None, one_f_one_b(2, 50), times=[Times(1, 1, 1), Times(2, 2, 2)])
    assert same_number(slow.period, 50 * 6, error=0.02)
    assert same_number(slow.bubble, 1 / 3, error=0.05)


def test_a_measured_plan_has_the_memory_of_each_stage():
    stages = lf.dense(8), lf.serial(lf.relu(), lf.dense(2))
    x = torch.ones(4, 3)
    made = plan(stages, x, gpipe(2, 5), world=6, link=Link(0.25, 32.0), repeats=1)
    first, second = (3 * 8 + 8) * 4, (8 * 2 + 2) * 4
    assert made.peak_bytes[0] == first + 5 * (4 * 3 + 4 * 8) * 4  # x and g of each microbatch
    assert made.peak_bytes[1] >= second + 5 * (4 * 8 + 4 * 2) * 4
    assert made.times[0].send == 0.25 + 4 * 8 * 4 / 32
    assert (made.times[1].send, made.replicas) == (0.0, 3)
    assert made.gradient_sum == (0.5 + first * 4 / 3 / 32, 0.5 + second * 4 / 3 / 32)
    ends = [max(each.end for each in made.intervals if each.stage == s) for s in range(2)]
    assert made.makespan == max(e + s for e, s in zip(ends, made.gradient_sum, strict=True))
    assert all(each.F > 0 and each.B > 0 and each.W > 0 for each in made.times)


def test_a_link_of_one_process_is_refused():
    with pytest.raises(lf.LayerError, match="measure_link: expected at least 2 processes, got 1"):
        lf.distributed.measure_link(lf.distributed.alone(), torch.ones(3))


def test_layers_of_all_kinds_can_be_measured():
    found = measure(mixed(lf.dropout(0.2)), mixed_batch(6)[0], repeats=1)
    key, statistics = 8, 4 * 14 + 8
    dense = [4 * 25, 4 * 42, 4 * (56 + 14 + 56), 4 * (14 + 24)]
    assert [each.params for each in found] == [
        dense[0] + key, dense[1], dense[2] + key, dense[3] + statistics,
    ]  # fmt: skip


def test_the_trace_has_an_event_for_each_action(tmp_path):
    made = plan((), None, lf.distributed.zero_bubble_h1(4, 5), times=ONES)
    made.save_trace(tmp_path / "plan.json")
    events = json.loads((tmp_path / "plan.json").read_text())["traceEvents"]
    named = [each["args"]["name"] for each in events if each["ph"] == "M"]
    assert named == [f"stage {stage}" for stage in range(4)]
    actions = [each for each in events if each["ph"] == "X"]
    assert len(actions) == 4 * 3 * 5
    assert {each["name"] for each in actions} == {f"{k}{m}" for k in "FBW" for m in range(5)}
    for stage in range(4):  # they do not overlap
        own = sorted((e["ts"], e["dur"]) for e in actions if e["tid"] == stage)
        assert all(a + d <= b for (a, d), (b, _) in pairwise(own))
    last = next(e for e in actions if (e["name"], e["tid"]) == ("W4", 0))
    assert last["ts"] + last["dur"] == made.makespan * 1e6


def test_the_picture_has_a_bar_for_each_action_and_sum():
    made = plan((lf.dense(2), lf.dense(2)), torch.ones(1, 3), gpipe(2, 3), 4, repeats=1)
    assert made.gradient_sum == (0.0, 0.0)
    axes = timeline(made)
    assert len(axes.patches) == 2 * 3 * 3  # without latency or bytes per second, sums take no time
    axes = timeline(
        plan((lf.dense(2),), torch.ones(1, 3), gpipe(1, 3), 4, repeats=1, link=Link(1.0))
    )
    assert len(axes.patches) == 3 * 3 + 1
    assert [text.get_text() for text in axes.get_legend().get_texts()] == [
        "F: forward", "B: dx", "W: dparams", "sum of gradients",
    ]  # fmt: skip


@pytest.mark.parametrize("count", [1, 2, 3, 6])
def test_the_slowest_interval_is_as_short_as_possible(count):
    costs = [3, 1, 4, 1, 5, 9, 2, 6]
    bounds = _cuts(costs, count)
    largest = max(sum(costs[a:b]) for a, b in pairwise(bounds))
    assert (bounds[0], bounds[-1], len(bounds)) == (0, 8, count + 1)

    def best(rest, k):  # all ways to cut
        if k == 1:
            return sum(rest)
        return min(max(sum(rest[:i]), best(rest[i:], k - 1)) for i in range(1, len(rest) - k + 2))

    assert largest == best(costs, count)


def test_a_serial_network_is_cut_into_stages():
    net, x = lf.serial(lf.dense(64), lf.relu(), lf.dense(64), lf.relu()), torch.ones(32, 64)
    stages = split_into_stages(net, x, 2)
    assert len(stages) == 2
    assert lf.serial(*(part for stage in stages for part in stage.parts)).name == net.name
    assert len(plan(net, x, gpipe(2, 2), repeats=1).stages) == 2


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: plan((), None, gpipe(2, 2), 3, times=ONES[:2]), "multiple of the 2 stages, got 3"),
        (lambda: plan((), None, gpipe(2, 2), times=ONES), "expected times of 2 stages, got 4"),
        (lambda: plan((lf.relu(),), torch.ones(1), gpipe(2, 2)), "expected 2 stages, as the sched"),
        (lambda: split_into_stages(lf.relu(), torch.ones(1), 1), "net to be lf.serial of layers"),
        (lambda: split_into_stages(lf.serial(lf.relu()), torch.ones(1), 2), "from 1 to 1 stages"),
        (lambda: plan((), None, ((("F", 0),),), times=ONES[:1]), "got F0 at position 0"),
    ],
    ids=["world", "times", "stages", "not serial", "too many", "schedule"],
)
def test_wrong_plans_are_refused(call, message):
    with pytest.raises(ValueError, match=message):
        call()
