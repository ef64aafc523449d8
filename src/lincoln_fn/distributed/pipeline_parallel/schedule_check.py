"""The check of a schedule before it runs: its order, its cycles, its memory."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate
from typing import Final

from lincoln_fn.core import LayerError, describe
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Schedule
from lincoln_fn.distributed.pipeline_parallel.simulation import Times, simulate

_KINDS: Final = "FBW"  # in the order in which a microbatch needs them


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
        stages: how many stages there are; None accepts any number.
        microbatches: how many microbatches there are; None accepts any number.
        limit: the largest number of caches that a stage may keep; None is no limit.

    Returns:
        For each stage, the largest number of microbatches whose cache it keeps at once. A cache is
        kept from F to W.

    Raises:
        LayerError: if an action is missing, unknown, twice in a stage or before one that it needs;
            if actions of several stages wait for each other in a cycle; if a stage keeps more
            caches than the limit. It names the stage and the position.

    Example:
        >>> check_schedule(lf.distributed.one_f_one_b(3, 8))
        (3, 2, 1)
        >>> check_schedule(((("F", 0), ("B", 0)),))
        Traceback (most recent call last):
        lincoln_fn.LayerError: schedule: expected W0 in stage 0, got none; add ("W", 0) \
after position 1
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
    simulate(schedule, [Times()] * len(schedule))
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
    places: list[list[int]] = [[] for _ in range(count)]  # of F, B and W, by microbatch
    for i, (kind, microbatch) in enumerate(actions):
        where, name = f"at position {i} of stage {stage}", f"{kind}{microbatch}"
        turn = _KINDS.index(kind)
        if microbatch >= count:
            problem = f"expected microbatches from 0 to {count - 1}, got {name} {where}"
            raise LayerError("schedule", f"{problem}; remove it")
        before = places[microbatch]
        if turn < len(before):
            problem = f"expected {name} once, got it {where}, too, after position {before[turn]}"
            raise LayerError("schedule", f"{problem}; remove one of them")
        if turn > len(before):
            needed = f"{_KINDS[turn - 1]}{microbatch}"
            problem = f"expected {needed} before {name}, got {name} {where}"
            raise LayerError("schedule", f"{problem}; put {needed} before it")
        before.append(i)
    for microbatch, before in enumerate(places):
        if len(before) < len(_KINDS):
            needed, place = _KINDS[len(before)], f" after position {before[-1]}" if before else ""
            problem = f"expected {needed}{microbatch} in stage {stage}, got none"
            raise LayerError("schedule", f'{problem}; add ("{needed}", {microbatch}){place}')
