"""When each action of a schedule begins and ends, if the times that actions take are known.

A stage takes its actions in order. It also waits for what comes from a neighbour:

    F of stage s   for F of stage s - 1, and its transfer
    B of stage s   for B of stage s + 1, and its transfer
"""

from __future__ import annotations

from collections.abc import Sequence
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
        LayerError: if actions wait for each other in a cycle.

    Example:
        >>> run = simulate(((("F", 0), ("B", 0), ("W", 0)),), [Times(1.0, 2.0, 3.0)])
        >>> [(each.kind, each.begin, each.end) for each in run]
        [('F', 0.0, 1.0), ('B', 1.0, 3.0), ('W', 3.0, 6.0)]
    """
    done: dict[Source, Interval] = {}
    stages, free, position = len(schedule), [0.0] * len(schedule), [0] * len(schedule)

    def begin_of(stage: int) -> float | None:
        """Return when a stage can begin its next action; None if it has none that can begin."""
        if position[stage] == len(schedule[stage]):
            return None
        source = _source_of(stage, schedule[stage][position[stage]], stages)
        if source is None:
            return free[stage]
        if source not in done:
            return None
        return max(free[stage], done[source].end + times[min(stage, source[0])].send)

    while begins := [(s, begin) for s in range(stages) if (begin := begin_of(s)) is not None]:
        for stage, begin in begins:
            actions, i = schedule[stage], position[stage]
            free[stage] = begin + _time(actions, i, times[stage], joint_backward)
            done[stage, actions[i]] = Interval(stage, *actions[i], begin, free[stage])
            position[stage] += 1
    if any(position[stage] < len(actions) for stage, actions in enumerate(schedule)):
        raise _cycle(schedule, position)
    return tuple(sorted(done.values(), key=lambda each: (each.begin, each.stage, each.end)))


def _source_of(stage: int, action: Action, stages: int) -> Source | None:
    """Return the neighbour's action that an action waits for; None if there is none."""
    kind, _ = action
    if kind == "F" and stage > 0:
        return stage - 1, action
    if kind == "B" and stage < stages - 1:
        return stage + 1, action
    return None


def _time(actions: Sequence[Action], i: int, times: Times, joint_backward: bool) -> float:
    """Return the time of an action; a joint backward is the B, and its W takes no time."""
    kind, microbatch = actions[i]
    if joint_backward and kind == "B" and actions[i + 1 : i + 2] == (("W", microbatch),):
        return times.B + times.W
    if joint_backward and kind == "W" and actions[i - 1] == ("B", microbatch):
        return 0.0
    return times.of(kind)


def _cycle(schedule: Schedule, position: Sequence[int]) -> LayerError:
    """Describe the first cycle of actions that wait for each other."""
    stage = next(s for s, actions in enumerate(schedule) if position[s] < len(actions))
    waits: dict[int, str] = {}
    while stage not in waits:
        i = position[stage]
        action = Action(*schedule[stage][i])
        source = _source_of(stage, action, len(schedule))
        assert source is not None, "an action can wait only for a neighbour"
        there = schedule[source[0]].index(action)
        waits[stage] = (
            f"{action} of stage {stage} (position {i}) waits for {action} of stage {source[0]} "
            f"(position {there})"
        )
        stage = source[0]
    first = list(waits).index(stage)
    cycle = "; ".join(list(waits.values())[first:])
    mend = "move one of them to an earlier position"
    return LayerError("schedule", f"expected actions without a cycle, got {cycle}; {mend}")
