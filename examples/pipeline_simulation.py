"""When the stages of a pipeline compute what, and how long they wait, from times that are known.

A stage takes its actions in the order of the schedule. F also waits for F of the stage before, B
for B of the next one, and both for the transfer. In a step of m microbatches a stage computes for
c_s = m (F + B + W). From its first action to its last one it takes t_s. With T = max_s t_s,

    bubble = sum_s (T - c_s) / sum_s c_s

is the time in which stages wait, as a share of the time in which they compute. For equal stages
that is (T - c) / c, as in Qi, Wan, Huang and Lin, "Zero Bubble Pipeline Parallelism", 2023.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import attrs

from lincoln_fn import distributed

NAMES = {"F": "F: forward", "B": "B: dx", "W": "W: dparams", "sum": "sum of gradients"}
COLOURS = {"F": "#0072B2", "B": "#E69F00", "W": "#009E73", "sum": "#CC79A7"}


@attrs.frozen
class Times:
    """How long F, B and W of a stage take for one microbatch, in seconds.

    `send` is the time to send the output to the next stage, or its gradient back; 0 for the last.
    """

    F: float = 1.0
    B: float = 1.0
    W: float = 1.0
    send: float = 0.0


@attrs.frozen
class Stage:
    """A stage on one microbatch: its times, and the bytes that it keeps."""

    times: Times = Times()
    kept: int = 0  # of a cache, or of what W needs, if that is more
    params: int = 0  # of its parameters


@attrs.frozen
class Link:
    """A connection between two processes: n bytes take latency + n / bandwidth seconds."""

    latency: float = 0.0
    bandwidth: float = float("inf")

    def seconds(self, n: float) -> float:
        """Return how long n bytes take."""
        return self.latency + n / self.bandwidth


@attrs.frozen
class Interval:
    """An action of a stage, or the sum of its gradients, with begin and end in seconds."""

    stage: int
    kind: str
    microbatch: int | None  # of an action
    begin: float
    end: float

    @property
    def seconds(self) -> float:
        """How long it takes."""
        return self.end - self.begin


def simulate(
    schedule: distributed.Schedule, times: Sequence[Times], joint_backward: bool = False
) -> tuple[Interval, ...]:
    """Compute when each action begins and ends; list them in the order in which they begin.

    With `joint_backward`, dx is sent after W, if W is the next action: as in a library that
    computes a backward in one piece.
    """
    distributed.check_schedule(schedule)  # so each round below takes an action
    done: dict[tuple[int, tuple[str, int]], Interval] = {}
    free = [0.0] * len(schedule)  # when a stage ends its last action so far
    waiting = [deque(actions) for actions in schedule]
    while any(waiting):
        for stage, actions in enumerate(waiting):
            while actions:
                kind, microbatch = action = actions[0]
                source = stage + {"F": -1, "B": 1, "W": len(schedule)}[kind]
                begin = free[stage]
                if 0 <= source < len(schedule):
                    if (source, action) not in done:
                        break
                    sent = times[min(stage, source)].send
                    begin = max(begin, done[source, action].end + sent)
                seconds = _time(schedule[stage], action, times[stage], joint_backward)
                free[stage] = begin + seconds
                done[stage, action] = Interval(stage, kind, microbatch, begin, free[stage])
                actions.popleft()
    return tuple(sorted(done.values(), key=lambda each: (each.begin, each.stage, each.end)))


def _time(
    actions: Sequence[Any], action: tuple[str, int], times: Times, joint_backward: bool
) -> float:
    """Return the time of an action; a joint backward is the B, and its W takes no time."""
    kind, microbatch = action
    pair = ("B", microbatch), ("W", microbatch)
    if joint_backward and kind != "F" and pair in pairwise(actions):
        return times.B + times.W if kind == "B" else 0.0
    return getattr(times, kind)


@attrs.frozen
class Plan:
    """A simulated step: what stages do when, the caches that each keeps at once, and its bytes."""

    intervals: tuple[Interval, ...]
    caches: tuple[int, ...]
    bytes: tuple[int, ...]  # of these caches, and of the parameters

    @property
    def makespan(self) -> float:
        """The seconds from the first action of a step to the last one of all stages."""
        return max(each.end for each in self.intervals)

    @property
    def period(self) -> float:
        """The seconds from step to step, if no stage waits until all others have ended theirs."""
        stages = range(len(self.caches))
        own = [[each for each in self.intervals if each.stage == stage] for stage in stages]
        return max(max(i.end for i in each) - min(i.begin for i in each) for each in own)

    @property
    def bubble(self) -> float:
        """The share of time in which stages wait, relative to the time in which they compute."""
        busy = sum(each.seconds for each in self.intervals if each.kind != "sum")
        return (self.period * len(self.caches) - busy) / busy


def plan(
    schedule: distributed.Schedule,
    stages: Sequence[Stage],
    link: Link | None = None,
    pipelines: int = 1,
    joint_backward: bool = False,
) -> Plan:
    """Simulate a step of pipelines that run beside each other, and add up their gradients.

    For the sum over r pipelines, a stage sends 2 (r - 1) / r of its gradient's bytes.
    """
    caches, link = distributed.check_schedule(schedule, stages=len(stages)), link or Link()
    intervals = simulate(schedule, [each.times for each in stages], joint_backward)
    share = 2 * (pipelines - 1) / pipelines
    ends = {each.stage: each.end for each in intervals}  # the last of each stage
    sums = [
        Interval(s, "sum", None, ends[s], ends[s] + link.latency + link.seconds(share * own.params))
        for s, own in enumerate(stages)
        if pipelines > 1
    ]
    kept = [count * own.kept + own.params for count, own in zip(caches, stages, strict=True)]
    return Plan((*intervals, *sums), caches, tuple(kept))


def trace(made: Plan) -> str:
    """Write a plan in Chrome's trace-event format, a JSON that Perfetto (ui.perfetto.dev) opens."""
    names = [
        {"name": "thread_name", "ph": "M", "pid": 0, "tid": s, "args": {"name": f"stage {s}"}}
        for s in range(len(made.caches))
    ]
    events = [
        {
            "name": each.kind if each.microbatch is None else f"{each.kind}{each.microbatch}",
            "cat": each.kind, "ph": "X", "pid": 0, "tid": each.stage,
            "ts": each.begin * 1e6, "dur": each.seconds * 1e6,
        }
        for each in made.intervals
    ]  # fmt: skip
    return json.dumps({"traceEvents": [*names, *events], "displayTimeUnit": "ms"})


def draw(made: Plan) -> Any:
    """Draw when each stage computes which microbatch, a bar for each; what is white is waiting."""
    # A figure of its own, where pyplot would keep one, is drawn by Agg and needs no display.
    from matplotlib.figure import Figure

    count = len(made.caches)
    axes = Figure(figsize=(9, 1.2 + 0.45 * count), layout="constrained").subplots()
    for kind, name in NAMES.items():
        own = [each for each in made.intervals if each.kind == kind]
        bars = axes.barh(
            [each.stage for each in own], [each.seconds for each in own],
            left=[each.begin for each in own], height=0.9, color=COLOURS[kind],
            edgecolor="white", linewidth=0.5, label=name if own else None,
        )  # fmt: skip
        if len(made.intervals) <= 400 and kind != "sum":  # more numbers would overlap
            axes.bar_label(bars, [each.microbatch for each in own], label_type="center", fontsize=7)
    axes.set_yticks(range(count), [f"stage {stage}" for stage in range(count)])
    axes.invert_yaxis()
    axes.set(xlabel="seconds", title=f"bubble {made.bubble:.1%} of the time computed")
    axes.legend(loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=4, frameon=False)
    return axes
