"""Schedules in several pieces."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

import torch
from torch import Tensor

from lincoln_fn.layer import call_repr
from lincoln_fn.optim.rules import require
from lincoln_fn.schedules.schedule import Schedule
from lincoln_fn.schedules.single import linear


def piecewise(lrs: Sequence[float], boundaries: Sequence[int]) -> Schedule:
    """Make a rate that jumps: lrs[i] from step boundaries[i - 1] on.

    Args:
        lrs: the rates.
        boundaries: the rising steps at which each but the first begins.

    Returns:
        The schedule.

    Raises:
        ValueError: if the boundaries do not rise, or are not one fewer than the rates.

    Example:
        >>> piecewise((0.5, 0.25), (10,))(torch.tensor([9, 10])).tolist()
        [0.5, 0.25]
    """
    _check_boundaries("piecewise", len(lrs), boundaries)

    def at(step: Tensor) -> Tensor:
        rate = torch.full_like(step, lrs[0])
        for lr, boundary in zip(lrs[1:], boundaries, strict=True):
            rate = torch.where(step < boundary, rate, lr)
        return rate

    return Schedule(f"piecewise({tuple(lrs)}, {tuple(boundaries)})", at)


def linear_warmup(
    then: float | Callable[[Tensor], Tensor], steps: int, start_factor: float = 1 / 3
) -> Schedule:
    """Let a rate begin gently: times start_factor at step 0, rising to its full at step `steps`.

    Args:
        then: a number, or a schedule, which begins at step `steps`.
        steps: of the rise, at least 1.
        start_factor: in [0, 1].

    Returns:
        The schedule.

    Raises:
        ValueError: if a number is out of its range.

    Source: Goyal et al., "Accurate, Large Minibatch SGD: Training ImageNet in 1 Hour", 2017,
    section 2.2.

    Example:
        >>> from lincoln_fn.schedules import cosine
        >>> linear_warmup(cosine(1.0, 4), 2, start_factor=0.5)(torch.tensor([0, 1, 2, 4])).tolist()
        [0.5, 0.75, 1.0, 0.5]
    """
    require("linear_warmup", "steps of at least 1", steps, steps >= 1)
    require("linear_warmup", "start_factor in [0, 1]", start_factor, 0 <= start_factor <= 1)
    rise = linear(start_factor, 1.0, steps)

    def at(step: Tensor) -> Tensor:
        full = then((step - steps).clamp(min=0)) if callable(then) else then
        return rise.at(step) * full

    name = call_repr("linear_warmup", then, steps, start_factor=(start_factor, 1 / 3))
    return Schedule(name, at)


def joined(schedules: Sequence[Callable[[Tensor], Tensor]], boundaries: Sequence[int]) -> Schedule:
    """Put schedules one after the other; each counts its steps from where it begins.

    Args:
        schedules: first to last.
        boundaries: the rising steps at which each but the first begins.

    Returns:
        The schedule.

    Raises:
        ValueError: if the boundaries do not rise, or are not one fewer than the schedules.

    Example:
        >>> from lincoln_fn.schedules import constant
        >>> joined((constant(2.0), linear(1.0, 0.0, 4)), (3,))(torch.tensor([2, 3, 5])).tolist()
        [2.0, 1.0, 0.5]
    """
    _check_boundaries("joined", len(schedules), boundaries)

    def at(step: Tensor) -> Tensor:
        rate = schedules[0](step)
        for schedule, boundary in zip(schedules[1:], boundaries, strict=True):
            rate = torch.where(step < boundary, rate, schedule((step - boundary).clamp(min=0)))
        return rate

    return Schedule(f"joined({tuple(schedules)}, {tuple(boundaries)})", at)


def _check_boundaries(name: str, count: int, boundaries: Sequence[int]) -> None:
    edges = (0, *boundaries)
    rising = all(a < b for a, b in pairwise(edges))
    what = f"{count - 1} boundaries that rise from above 0"
    require(name, what, tuple(boundaries), rising and len(edges) == count)
