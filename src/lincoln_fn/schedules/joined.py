"""Schedules in several pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Annotated

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, NonNegative, NonNegativeInt, PositiveInt, Probability, bare
from lincoln_fn.schedules.schedule import Schedule


def _rate(schedule: Callable[[Tensor], Tensor], step: Tensor) -> Tensor:
    """Compute a rate: a function of a user's own takes int64, to index a table, for example."""
    return schedule(step if isinstance(schedule, Schedule) else step.long())


def _piecewise(step: Tensor, *, lrs: Sequence[float], boundaries: Sequence[int]) -> Tensor:
    """Pick lrs[i] from step boundaries[i - 1] on."""
    rate = torch.full_like(step, lrs[0])
    for lr, boundary in zip(lrs[1:], boundaries, strict=True):
        rate = torch.where(step < boundary, rate, lr)
    return rate


@core.constructor
def piecewise(
    lrs: Annotated[Sequence[NonNegative], NOT_EMPTY], boundaries: Sequence[PositiveInt]
) -> Schedule:
    """Make a rate that jumps: lrs[i] from step boundaries[i - 1] on.

    Args:
        lrs: the rates.
        boundaries: the increasing steps at which each one except the first begins.

    Raises:
        ValueError: if the boundaries do not increase, or are not one fewer than the rates.

    Example:
        >>> piecewise((0.5, 0.25), (10,))(torch.tensor([9, 10])).tolist()
        [0.5, 0.25]
    """
    _check_boundaries("piecewise", len(lrs), boundaries)
    return bare(Schedule, _piecewise)


def _linear_warmup(
    step: Tensor, *, then: float | Callable[[Tensor], Tensor], steps: int, start_factor: float
) -> Tensor:
    """Multiply the rate by the rise from start_factor to 1."""
    rise = start_factor + (1.0 - start_factor) * (step / steps).clamp(max=1)
    return rise * (_rate(then, (step - steps).clamp(min=0)) if callable(then) else then)


@core.constructor
def linear_warmup(
    then: NonNegative | Callable[[Tensor], Tensor],
    steps: PositiveInt,
    start_factor: Probability = 1 / 3,
) -> Schedule:
    """Start with a small rate: start_factor times the rate, rising linearly to all of it.

    Args:
        then: the rate after it: a number, or a schedule, which begins at step `steps`.
        steps: the length of the rise, at least 1.
        start_factor: the factor at step 0, in [0, 1].

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017,
    section 2.2.

    Example:
        >>> from lincoln_fn.schedules import cosine
        >>> linear_warmup(cosine(1.0, 4), 2, start_factor=0.5)(torch.tensor([0, 1, 2, 4])).tolist()
        [0.5, 0.75, 1.0, 0.5]
    """
    return bare(Schedule, _linear_warmup)


def _follow(
    step: Tensor,
    *,
    schedules: Sequence[Callable[[Tensor], Tensor]],
    boundaries: Sequence[int],
) -> Tensor:
    """Follow schedules[i] from step boundaries[i - 1] on, its steps counted from there."""
    rate = _rate(schedules[0], step)
    for schedule, boundary in zip(schedules[1:], boundaries, strict=True):
        rate = torch.where(step < boundary, rate, _rate(schedule, (step - boundary).clamp(min=0)))
    return rate


@core.constructor
def joined(
    schedules: Annotated[Sequence[Callable[[Tensor], Tensor]], NOT_EMPTY],
    boundaries: Sequence[PositiveInt],
) -> Schedule:
    """Join schedules one after the other; each counts its steps from its own beginning.

    Args:
        schedules: first to last.
        boundaries: the increasing steps at which each one except the first begins.

    Raises:
        ValueError: if the boundaries do not increase, or are not one fewer than the schedules.

    Example:
        >>> from lincoln_fn.schedules import constant, linear
        >>> joined((constant(2.0), linear(1.0, 0.0, 4)), (3,))(torch.tensor([2, 3, 5])).tolist()
        [2.0, 1.0, 0.5]
    """
    _check_boundaries("joined", len(schedules), boundaries)
    return bare(Schedule, _follow)


def _wsd(step: Tensor, *, lr: float, warmup: int, steady: int, decay: int, lr_min: float) -> Tensor:
    """Rise from 0 to lr, stay, and fall to lr_min."""
    rise = (step + 1) / (warmup + 1)
    fall = lr + (lr_min - lr) * ((step - warmup - steady) / decay).clamp(0, 1)
    return torch.minimum(lr * rise.clamp(max=1), fall)


@core.constructor
def wsd(
    lr: NonNegative,
    warmup: NonNegativeInt,
    steady: NonNegativeInt,
    decay: PositiveInt,
    lr_min: NonNegative = 0.0,
) -> Schedule:
    """Warm up, stay, decay: a rate that rises linearly to lr, stays there, and falls linearly.

    Until the fall begins, the run needs no length: one may go on from there, again and again.

    Args:
        lr: the highest rate.
        warmup: the number of steps below lr at the start; step i has lr (i + 1) / (warmup + 1).
        steady: the number of steps at lr.
        decay: the length of the fall, at least 1.
        lr_min: the rate after the fall, at most lr.

    Raises:
        ValueError: if an argument is out of its range.

    Source: Hu et al., "MiniCPM: Unveiling the Potential of Small Language Models with Scalable
    Training Strategies", 2024, section 4; Hägele et al., "Scaling Laws and Compute-Optimal Training
    Beyond Fixed Training Durations", 2024.

    Example:
        >>> wsd(1.0, 1, 2, 4)(torch.tensor([0, 1, 3, 5, 7, 8])).tolist()
        [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    core.require(lr_min <= lr, "wsd", "lr_min of at most lr", lr_min)
    return bare(Schedule, _wsd)


def _check_boundaries(name: str, count: int, boundaries: Sequence[int]) -> None:
    edges = (0, *boundaries)
    rising = all(a < b for a, b in pairwise(edges))
    what = f"{count - 1} boundaries that rise from above 0"
    core.require(rising and len(edges) == count, name, what, boundaries)
