"""Schedules of a pipeline: in which order each stage computes what, as a value.

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

and computes for m (T_F + T_B + T_W). (Qi, Wan, Huang and Lin, "Zero Bubble Pipeline Parallelism",
2023.) A pipeline of this library sends dx before W.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from lincoln_fn.core import PositiveInt, checked

Kind: TypeAlias = Literal["F", "B", "W"]


class Action(NamedTuple):
    """What a stage computes for a microbatch; a plain ("F", 0) does as well.

    Args:
        kind: "F", "B" or "W".
        microbatch: its number, from 0.
    """

    kind: Kind
    microbatch: int

    def __repr__(self) -> str:
        return f"{self.kind}{self.microbatch}"


# The actions of each stage.
Schedule: TypeAlias = tuple[tuple[Action, ...], ...]


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
    return tuple(
        action for turn in turns for action in turn if action.microbatch in range(microbatches)
    )
