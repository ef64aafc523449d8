"""Whether a schedule can run, and when each action begins and ends, if their times are known.

A stage takes its actions in order. It also waits for what comes from a neighbour:

    F of stage s   for F of stage s - 1, and its transfer
    B of stage s   for B of stage s + 1, and its transfer
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise
from typing import Final, TypeAlias

import attrs

from lincoln_fn.core import LayerError, describe
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Kind, Schedule


@attrs.frozen
class Times:
    """How long F, B and W of a stage take for one microbatch, in seconds.

    `send` is the time to send the output to the next stage, or its gradient back; 0 for the last.
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

_KINDS: Final = "FBW"  # in the order in which a microbatch needs them


def simulate(
    schedule: Schedule, times: Sequence[Times], *, joint_backward: bool = False
) -> tuple[Interval, ...]:
    """Compute when each action begins and ends.

    Args:
        joint_backward: whether dx is sent after W, if W is the next action: as in a library that
            computes a backward in one piece.

    Returns:
        All actions, in the order in which they begin.

    Example:
        >>> run = simulate(((("F", 0), ("B", 0), ("W", 0)),), [Times(1.0, 2.0, 3.0)])
        >>> [(each.kind, each.begin, each.end) for each in run]
        [('F', 0.0, 1.0), ('B', 1.0, 3.0), ('W', 3.0, 6.0)]
    """
    check_schedule(schedule)
    done: dict[Source, Interval] = {}
    for (stage, action), sources in in_order(schedule):
        begin = 0.0
        for source in sources:
            transfer = times[min(stage, source[0])].send if source[0] != stage else 0.0
            begin = max(begin, done[source].end + transfer)
        end = begin + _time(schedule[stage], action, times[stage], joint_backward)
        done[stage, action] = Interval(stage, *action, begin, end)
    return tuple(sorted(done.values(), key=lambda each: (each.begin, each.stage, each.end)))


def in_order(schedule: Schedule) -> list[tuple[Source, list[Source]]]:
    """List each action, with those that it waits for, after them: by generations."""
    before: dict[Source, list[Source]] = {}
    for stage, actions in enumerate(schedule):
        for i, action in enumerate(actions):
            neighbour = stage + {"F": -1, "B": 1, "W": len(schedule)}[action[0]]
            before[stage, action] = [(stage, each) for each in actions[max(i - 1, 0) : i]]
            if 0 <= neighbour < len(schedule):
                before[stage, action].append((neighbour, action))
    try:
        return [(each, before[each]) for each in TopologicalSorter(before).static_order()]
    except CycleError as error:
        raise _cycle(schedule, error.args[1]) from None


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


def check_schedule(
    schedule: Schedule,
    *,
    stages: int | None = None,
    microbatches: int | None = None,
    limit: int | None = None,
) -> tuple[int, ...]:
    """Check that a schedule can run, and count the caches that each stage keeps.

    Args:
        schedule: a tuple of actions for each stage, such as ((("F", 0), ("B", 0), ("W", 0)),).
        stages: how many there are; None accepts any number.
        microbatches: likewise.
        limit: the largest number of caches that a stage may keep; None is no limit.

    Returns:
        For each stage, the largest number of microbatches whose cache it keeps at once. A cache is
        kept from F to W.

    Raises:
        LayerError: if an action is missing, unknown, twice in a stage or before one that it needs,
            also by a cycle over several stages. It names the stage and the position.

    Example:
        >>> check_schedule(lf.distributed.one_f_one_b(3, 8))
        (3, 2, 1)
    """
    if not isinstance(schedule, tuple) or not schedule:
        raise LayerError("schedule", f"expected a tuple for each stage, got {describe(schedule)}")
    if stages is not None and len(schedule) != stages:
        mend = f"make it for {stages} stages"
        raise LayerError("schedule", f"expected {stages} stages, got {len(schedule)}; {mend}")
    for stage, actions in enumerate(schedule):
        _check_kinds(stage, actions)
    numbers = {action[1] for actions in schedule for action in actions}
    count = max(numbers, default=-1) + 1 if microbatches is None else microbatches
    for stage, actions in enumerate(schedule):
        _check_order(stage, actions, count)
    in_order(schedule)
    change = {"F": 1, "B": 0, "W": -1}  # of the number of caches
    counts = (accumulate(change[kind] for kind, _ in actions) for actions in schedule)
    peaks = tuple(max(each, default=0) for each in counts)
    for stage, peak in enumerate(peaks):
        if limit is not None and peak > limit:
            mend = "put W earlier, or fewer F before the first B"
            caches = "1 cache" if limit == 1 else f"{limit} caches"
            problem = f"expected at most {caches} in stage {stage}, got {peak}"
            raise LayerError("schedule", f"{problem}; {mend}")
    return peaks


def _check_kinds(stage: int, actions: object) -> None:
    """Check that a stage's actions are pairs of a kind and a number."""
    if not isinstance(actions, tuple):
        raise LayerError("schedule", f"expected a tuple for stage {stage}, got {describe(actions)}")
    for i, action in enumerate(actions):
        is_pair = isinstance(action, tuple) and len(action) == 2 and action[0] in (*_KINDS,)
        if not is_pair or type(action[1]) is not int or action[1] < 0:
            problem = f'expected an action such as ("F", 0) at position {i} of stage {stage}'
            raise LayerError("schedule", f"{problem}, got {describe(action)}")


def _check_order(stage: int, actions: Sequence[Action], count: int) -> None:
    """Check that a stage has F, B and W of each microbatch once, in this order."""
    found: list[list[str]] = [[] for _ in range(count)]
    for i, (kind, microbatch) in enumerate(actions):
        place = f"{kind}{microbatch} at position {i}"
        if microbatch >= count:
            problem = f"expected microbatches from 0 to {count - 1}, got {place} of stage {stage}"
            raise LayerError("schedule", f"{problem}; remove it")
        found[microbatch].append(place)
    for microbatch, places in enumerate(found):
        if [place[0] for place in places] != [*_KINDS]:
            wanted = ", ".join(f"{kind}{microbatch}" for kind in _KINDS)
            problem = f"expected {wanted} in stage {stage}, each once and in this order"
            raise LayerError("schedule", f"{problem}, got {', '.join(places) or 'none'}")
