"""What a larger run would take, simulated from times measured in this process.

A stage computes for c_s = m (F + B + W) in a step of m microbatches. From its first action to its
last one it takes t_s. With the period T = max_s t_s,

    bubble = sum_s (T - c_s) / sum_s c_s

is the time in which stages wait, as a share of the time in which they compute. For equal stages
that is (T - c) / c, as in Qi et al., "Zero Bubble Pipeline Parallelism", 2023.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import attrs

from lincoln_fn.core import Arrays, Layer, LayerError
from lincoln_fn.distributed.pipeline_parallel import measurement, simulation
from lincoln_fn.distributed.pipeline_parallel.measurement import Link, Measured
from lincoln_fn.distributed.pipeline_parallel.schedules import Schedule
from lincoln_fn.distributed.pipeline_parallel.simulation import Interval, Times


@attrs.frozen(repr=False)
class Plan:
    """A simulated step; made by `plan`.

    Args:
        stages: the layers; () if times were given.
        intervals: when each action begins and ends, in seconds.
        times: those of each stage.
        peak_caches: the largest number of microbatches whose cache each stage keeps at once.
        peak_bytes: the bytes of these caches, and of the parameters, for each stage; () if times
            were given.
        replicas: how many pipelines run beside each other.
        gradient_sum: the seconds that each stage takes to add up its gradient over them.
    """

    stages: tuple[Layer, ...]
    intervals: tuple[Interval, ...]
    times: tuple[Times, ...]
    peak_caches: tuple[int, ...]
    peak_bytes: tuple[int, ...]
    replicas: int
    gradient_sum: tuple[float, ...]

    @property
    def makespan(self) -> float:
        """The seconds from the first action of a step to the last one of all stages."""
        return max(self.span(stage)[1] for stage in range(len(self.times)))

    @property
    def period(self) -> float:
        """The seconds from step to step, if no stage waits until all others have ended theirs."""
        return max(end - begin for begin, end in map(self.span, range(len(self.times))))

    @property
    def bubble(self) -> float:
        """The share of time in which stages wait, relative to the time in which they compute."""
        busy = sum(each.end - each.begin for each in self.intervals)
        return (self.period * len(self.times) - busy) / busy

    def span(self, stage: int) -> tuple[float, float]:
        """Return when a stage begins, and when it ends, its gradient's sum included."""
        own = [each for each in self.intervals if each.stage == stage]
        return own[0].begin, own[-1].end + self.gradient_sum[stage]

    def __repr__(self) -> str:
        parts = [f"bubble={self.bubble:.1%}", f"period={self.period:.4g} s"]
        parts += [f"makespan={self.makespan:.4g} s", f"peak_caches={self.peak_caches}"]
        return f"Plan({', '.join(parts)})"

    def trace(self) -> str:
        """Write the timeline as JSON, in Chrome's trace-event format, for Perfetto."""
        events: list[dict[str, object]] = [
            {"name": "thread_name", "ph": "M", "pid": 0, "tid": s, "args": {"name": f"stage {s}"}}
            for s in range(len(self.times))
        ]
        for each in self.intervals:
            name, length = f"{each.kind}{each.microbatch}", each.end - each.begin
            events.append(_event(name, each.kind, each.stage, each.begin, length))
        for stage, seconds in enumerate(self.gradient_sum):
            if seconds:
                end = self.span(stage)[1]
                events.append(_event("gradient sum", "sum", stage, end - seconds, seconds))
        return json.dumps({"traceEvents": events, "displayTimeUnit": "ms"})

    def save_trace(self, path: str | Path) -> None:
        """Write the timeline into a file at `path` that Perfetto (ui.perfetto.dev) opens."""
        Path(path).write_text(self.trace())


def _event(name: str, kind: str, stage: int, begin: float, length: float) -> dict[str, object]:
    return {
        "name": name, "cat": kind, "ph": "X", "pid": 0, "tid": stage,
        "ts": begin * 1e6, "dur": length * 1e6,
    }  # fmt: skip


def plan(
    stages: Layer | Sequence[Layer],
    x: Arrays,
    schedule: Schedule,
    world: int | None = None,
    *,
    times: Sequence[Times] | None = None,
    link: Link | None = None,
    repeats: int = 5,
    joint_backward: bool = False,
) -> Plan:
    """Simulate a step of a pipeline that may be larger than this machine.

    Args:
        stages: the layers; or one `lf.serial`, which is cut so that the slowest stage is as fast
            as possible.
        x: one microbatch.
        world: how many processes there are, a multiple of the number of stages: there are then
            several pipelines. None is one process for each stage.
        times: of each stage; None measures them in this process, with its number of threads.
        link: between processes; None takes no time. `measure_link` measures one.
        joint_backward: whether dx is sent after W, as where a backward is computed in one piece.

    Example:
        >>> schedule = lf.distributed.zero_bubble_h1(stages=4, microbatches=12)
        >>> plan((), None, schedule, times=[Times()] * 4)
        Plan(bubble=8.3%, period=39 s, makespan=39 s, peak_caches=(4, 4, 4, 4))
    """
    peaks = simulation.check_schedule(schedule)
    count, link = len(schedule), Link() if link is None else link
    replicas, rest = divmod(count if world is None else world, count)
    if rest or replicas < 1:
        problem = f"expected world to be a multiple of the {count} stages, got {world}"
        raise LayerError("plan", problem)
    cut: tuple[Layer, ...] = ()
    measured: tuple[Measured, ...] = ()
    if times is None:
        if isinstance(stages, Layer):
            stages = measurement.split_into_stages(stages, x, count)
        cut = tuple(stages)
        if len(cut) != count:
            problem = f"expected {count} stages, as the schedule has, got {len(cut)}"
            raise LayerError("plan", problem)
        measured = measurement.measure(cut, x, link=link, repeats=repeats)
        times = [each.times for each in measured]
    if len(times) != count:
        raise LayerError("plan", f"expected times of {count} stages, got {len(times)}")
    return Plan(
        cut,
        simulation.simulate(schedule, times, joint_backward=joint_backward),
        tuple(times),
        peaks,
        tuple(peak * each.kept + each.params for peak, each in zip(peaks, measured, strict=False)),
        replicas,
        _gradient_sums(measured, replicas, link, count),
    )


def _gradient_sums(
    measured: Sequence[Measured], replicas: int, link: Link, count: int
) -> tuple[float, ...]:
    """Return how long each stage adds up its gradient: it sends 2 (r - 1) / r of its bytes."""
    if replicas == 1 or not measured:
        return (0.0,) * count
    share = 2 * (replicas - 1) / replicas
    return tuple(link.seconds(share * each.params) + link.latency for each in measured)
