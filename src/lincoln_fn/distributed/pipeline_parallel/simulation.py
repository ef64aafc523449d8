"""When each action of a schedule begins and ends, if the times that actions take are known.

A stage takes its actions in order. It also waits for what comes from a neighbour:

    F of stage s   for F of stage s - 1, and its transfer
    B of stage s   for B of stage s + 1, and its transfer
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise
from typing import TypeAlias

import attrs

from lincoln_fn.core import LayerError
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Kind, Schedule


@attrs.frozen
class Times:
    """How long a stage's actions on one microbatch take, in seconds.

    Args:
        F: forward.
        B: dx.
        W: dparams.
        send: sending the output to the next stage, or its gradient back; 0 for the last stage.
    """

    F: float = 1.0
    B: float = 1.0
    W: float = 1.0
    send: float = 0.0

    def of(self, kind: Kind) -> float:
        """Return the time of an action."""
        return {"F": self.F, "B": self.B, "W": self.W}[kind]

    @property
    def computing(self) -> float:
        """The time of all three actions."""
        return self.F + self.B + self.W


@attrs.frozen
class Interval:
    """An action of a stage, with its begin and its end in seconds."""

    stage: int
    kind: Kind
    microbatch: int
    begin: float
    end: float


# A stage and its action.
Source: TypeAlias = tuple[int, Action]


def simulate(
    schedule: Schedule, times: Sequence[Times], *, joint_backward: bool = False
) -> tuple[Interval, ...]:
    """Compute when each action begins and ends.

    Args:
        schedule: the actions of each stage.
        times: those of each stage.
        joint_backward: whether dx is sent after W, if W is the next action: as in a library that
            computes a backward in one piece.

    Returns:
        All actions, in the order in which they begin.

    Raises:
        LayerError: if actions wait for each other in a cycle, or for one that is missing.

    Example:
        >>> run = simulate(((("F", 0), ("B", 0), ("W", 0)),), [Times(1.0, 2.0, 3.0)])
        >>> [(each.kind, each.begin, each.end) for each in run]
        [('F', 0.0, 1.0), ('B', 1.0, 3.0), ('W', 3.0, 6.0)]
    """
    before: dict[Source, list[Source]] = {}  # what each action waits for
    for stage, actions in enumerate(schedule):
        for i, action in enumerate(actions):
            neighbour = stage + {"F": -1, "B": 1, "W": len(schedule)}[action[0]]
            before[stage, action] = [(stage, each) for each in actions[max(i - 1, 0) : i]]
            if 0 <= neighbour < len(schedule):
                before[stage, action].append((neighbour, action))
    for stage, action in (source for sources in before.values() for source in sources):
        if (stage, action) not in before:
            problem = (
                f"expected {Action(*action)} in stage {stage}, got none, but another waits for it"
            )
            raise LayerError("schedule", problem)
    done: dict[Source, Interval] = {}
    try:
        for stage, action in TopologicalSorter(before).static_order():
            begin = 0.0
            for source in before[stage, action]:
                transfer = times[min(stage, source[0])].send if source[0] != stage else 0.0
                begin = max(begin, done[source].end + transfer)
            end = begin + _time(schedule[stage], action, times[stage], joint_backward)
            done[stage, action] = Interval(stage, *action, begin, end)
    except CycleError as error:
        raise _cycle(schedule, error.args[1]) from None
    return tuple(sorted(done.values(), key=lambda each: (each.begin, each.stage, each.end)))


def _time(actions: Sequence[Action], action: Action, times: Times, joint_backward: bool) -> float:
    """Return the time of an action; a joint backward is the B, and its W takes no time."""
    kind, microbatch = action
    pair = Action("B", microbatch), Action("W", microbatch)
    if joint_backward and kind != "F" and pair in pairwise(actions):
        return times.B + times.W if kind == "B" else 0.0
    return times.of(kind)


def _cycle(schedule: Schedule, cycle: Sequence[Source]) -> LayerError:
    """Describe actions of which each is waited for by the next one, and the last is the first."""

    def name(stage: int, action: Action) -> str:
        position = schedule[stage].index(action)
        return f"{Action(*action)} of stage {stage} (position {position})"

    waits = [(b, a) for a, b in pairwise(cycle) if a[0] != b[0]][::-1]
    first = waits.index(min(waits))
    texts = [f"{name(*b)} waits for {name(*a)}" for b, a in (*waits[first:], *waits[:first])]
    problem = f"expected actions without a cycle, got {'; '.join(texts)}"
    return LayerError("schedule", f"{problem}; move one of them to an earlier position")
