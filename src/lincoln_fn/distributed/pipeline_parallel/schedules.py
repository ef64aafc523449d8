"""Schedules of a pipeline: in which order each stage computes what, and whether it can run.

A batch is divided into m microbatches, which pass through p stages. An action is one of

    F   forward of a microbatch, which makes its cache
    B   dx of a microbatch, from its cache and the next stage's dx: `lf.walk.cotangents`
    W   dparams of a microbatch, which frees its cache: `lf.walk.grads_at`

The stage before waits for B, and nothing waits for W. So W can fill time in which a stage would
wait. With T the time of an action, and all stages alike, a stage waits in each step for

    GPipe, 1F1B   (p - 1) (T_F + T_B)            dx is sent before W
                  (p - 1) (T_F + T_B + T_W)      dx is sent after W: one backward
    H1            (p - 1) (T_F + T_B - T_W)
    H2            (p - 1) (T_F + T_B - 2 T_W)

and computes for m (T_F + T_B + T_W). A pipeline of this library sends dx before W.

A stage takes its actions in order. It also waits for what comes from a neighbour: F for F of the
stage before, and B for B of the next one.
"""

from __future__ import annotations

from collections.abc import Sequence
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise
from typing import Literal, NamedTuple, TypeAlias, get_args

from lincoln_fn.core import LayerError, PositiveInt, checked, describe, unexpected

Kind: TypeAlias = Literal["F", "B", "W"]  # in the order in which a microbatch needs them


class Action(NamedTuple):
    """What a stage computes for a microbatch, numbered from 0; a plain ("F", 0) does as well."""

    kind: Kind
    microbatch: int

    def __repr__(self) -> str:
        return f"{self.kind}{self.microbatch}"


# The actions of each stage.
Schedule: TypeAlias = tuple[tuple[Action, ...], ...]
# A stage and its action.
Source: TypeAlias = tuple[int, Action]


@checked
def gpipe(stages: PositiveInt, microbatches: PositiveInt) -> Schedule:
    """Make the schedule of p stages and m microbatches with all F first: it keeps m caches.

    Source:
        Huang et al., "GPipe", 2019.

    Example:
        >>> gpipe(2, 2)
        ((F0, F1, B0, W0, B1, W1), (F0, F1, B0, W0, B1, W1))
    """
    return tuple(_actions(microbatches, microbatches, 0) for _ in range(stages))


@checked
def one_f_one_b(stages: PositiveInt, microbatches: PositiveInt) -> Schedule:
    """Make the schedule that alternates F and B: stage s, from 0, keeps p - s caches.

    It waits as long as GPipe.

    Source:
        Narayanan et al., "PipeDream", 2019, as flushed after each batch.

    Example:
        >>> one_f_one_b(2, 2)
        ((F0, F1, B0, W0, B1, W1), (F0, B0, W0, F1, B1, W1))
    """
    return tuple(_actions(microbatches, stages - s, 0) for s in range(stages))


@checked
def zero_bubble_h1(stages: PositiveInt, microbatches: PositiveInt) -> Schedule:
    """Make the schedule that delays W, to fill some of the time in which a stage would wait.

    If all actions take the same time, a stage waits half as long as in 1F1B. Every stage keeps p
    caches, as the first one does in 1F1B. The number m of microbatches is best at least p.

    Source:
        Qi et al., "Zero Bubble Pipeline Parallelism", 2023.

    Example:
        >>> zero_bubble_h1(2, 2)
        ((F0, F1, B0, W0, B1, W1), (F0, B0, F1, B1, W0, W1))
    """
    return tuple(_actions(microbatches, stages - s, s) for s in range(stages))


@checked
def zero_bubble_h2(stages: PositiveInt, microbatches: PositiveInt) -> Schedule:
    """Make the schedule that also begins with more F, so that W fills all of that time.

    If all actions take the same time, no stage waits. Every stage keeps 2 p - 1 caches. The stages
    end one after the other, as they began. So there is no waiting only if the next step begins in a
    stage before all others have ended this one. m is best at least 2 p - 1.

    Source:
        Qi et al., "Zero Bubble Pipeline Parallelism", 2023.

    Example:
        >>> zero_bubble_h2(2, 3)
        ((F0, F1, F2, B0, W0, B1, W1, B2, W2), (F0, B0, F1, B1, F2, B2, W0, W1, W2))
    """
    return tuple(_actions(microbatches, 2 * (stages - s) - 1, 2 * s) for s in range(stages))


def _actions(microbatches: int, ahead: int, delay: int) -> tuple[Action, ...]:
    """List the actions of a stage: turn i is F of i + ahead - 1, B of i and W of i - delay."""
    turns = (
        (Action("F", i + ahead - 1), Action("B", i), Action("W", i - delay))
        for i in range(1 - ahead, microbatches + delay)
    )
    numbers = range(microbatches)
    return tuple(action for turn in turns for action in turn if action.microbatch in numbers)


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
        raise unexpected("schedule", "a tuple for each stage", describe(schedule))
    if stages is not None and len(schedule) != stages:
        mend = f"make it for {stages} stages"
        raise unexpected("schedule", f"{stages} stages", len(schedule), mend)
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
            raise unexpected("schedule", f"at most {caches} in stage {stage}", peak, mend)
    return peaks


def _check_kinds(stage: int, actions: object) -> None:
    if not isinstance(actions, tuple):
        raise unexpected("schedule", f"a tuple for stage {stage}", describe(actions))
    for i, action in enumerate(actions):
        is_pair = isinstance(action, tuple) and len(action) == 2 and action[0] in get_args(Kind)
        if not is_pair or type(action[1]) is not int or action[1] < 0:
            expected = f'an action such as ("F", 0) at position {i} of stage {stage}'
            raise unexpected("schedule", expected, describe(action))


def _check_order(stage: int, actions: Sequence[Action], count: int) -> None:
    """Check that a stage has F, B and W of each microbatch once, in this order."""
    found: list[list[str]] = [[] for _ in range(count)]
    for i, (kind, microbatch) in enumerate(actions):
        place = f"{kind}{microbatch} at position {i}"
        if microbatch >= count:
            expected = f"microbatches from 0 to {count - 1}"
            raise unexpected("schedule", expected, f"{place} of stage {stage}", "remove it")
        found[microbatch].append(place)
    for microbatch, places in enumerate(found):
        if [place[0] for place in places] != [*get_args(Kind)]:
            wanted = ", ".join(f"{kind}{microbatch}" for kind in get_args(Kind))
            expected = f"{wanted} in stage {stage}, each once and in this order"
            raise unexpected("schedule", expected, ", ".join(places) or "none")


def in_order(schedule: Schedule) -> tuple[Source, ...]:
    """List all actions, each after those that it waits for: by generations."""
    before: dict[Source, list[Source]] = {}
    for stage, actions in enumerate(schedule):
        for i, action in enumerate(actions):
            neighbour = stage + {"F": -1, "B": 1, "W": len(schedule)}[action[0]]
            before[stage, action] = [(stage, each) for each in actions[max(i - 1, 0) : i]]
            if 0 <= neighbour < len(schedule):
                before[stage, action].append((neighbour, action))
    try:
        return tuple(TopologicalSorter(before).static_order())
    except CycleError as error:
        raise _cycle(schedule, error.args[1]) from None


def _cycle(schedule: Schedule, cycle: Sequence[Source]) -> LayerError:
    """Describe actions of which each is waited for by the next one, and the last is the first."""

    def name(stage: int, action: Action) -> str:
        position = schedule[stage].index(action)
        return f"{Action(*action)} of stage {stage} (position {position})"

    waits = [(b, a) for a, b in pairwise(cycle) if a[0] != b[0]][::-1]
    first = waits.index(min(waits))
    texts = [f"{name(*b)} waits for {name(*a)}" for b, a in (*waits[first:], *waits[:first])]
    mend = "move one of them to an earlier position"
    return unexpected("schedule", "actions without a cycle", "; ".join(texts), mend)
