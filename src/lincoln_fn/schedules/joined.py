"""Schedules in several pieces, the one-cycle schedule among them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import (
    NOT_EMPTY,
    NonNegative,
    NonNegativeInt,
    Positive,
    PositiveInt,
    Probability,
    bare,
)  # fmt: skip
from lincoln_fn.schedules.schedule import Schedule

# A rate that stays, or one of each step.
Rate: TypeAlias = float | Callable[[Tensor], Tensor]


def _rate(rate: Rate, step: Tensor) -> Tensor:
    """Compute a rate: a function of a user's own takes int64, to index a table, for example."""
    if not callable(rate):
        return torch.full_like(step, rate)
    return rate(step if isinstance(rate, Schedule) else step.long())


def _follow(step: Tensor, *, rates: Sequence[Rate], boundaries: Sequence[int]) -> Tensor:
    """Follow rates[i] from step boundaries[i - 1] on, its steps counted from there."""
    rate = _rate(rates[0], step)
    for later, boundary in zip(rates[1:], boundaries, strict=True):
        rate = torch.where(step < boundary, rate, _rate(later, (step - boundary).clamp(min=0)))
    return rate


@core.constructor
def piecewise(
    lrs: Annotated[Sequence[NonNegative], NOT_EMPTY], boundaries: Sequence[PositiveInt]
) -> Schedule:
    """Make a rate that jumps: lrs[i] from step boundaries[i - 1] on.

    Example:
        >>> piecewise((0.5, 0.25), (10,))(torch.tensor([9, 10])).tolist()
        [0.5, 0.25]
    """
    _check_boundaries("piecewise", len(lrs), boundaries)
    return bare(Schedule, partial(_follow, rates=lrs))


def _linear_warmup(step: Tensor, *, then: Rate, steps: int, start_factor: float) -> Tensor:
    rise = start_factor + (1.0 - start_factor) * (step / steps).clamp(max=1)
    return rise * _rate(then, (step - steps).clamp(min=0))


@core.constructor
def linear_warmup(
    then: NonNegative | Callable[[Tensor], Tensor],
    steps: PositiveInt,
    start_factor: Probability = 1 / 3,
) -> Schedule:
    """Start with a small rate: start_factor times the rate, rising linearly to all of it.

    Args:
        then: the rate after it: a number, or a schedule, which begins at step `steps`.

    Source: Goyal et al., "Accurate, Large Minibatch SGD", 2017, section 2.2.

    Example:
        >>> from lincoln_fn.schedules import cosine
        >>> linear_warmup(cosine(1.0, 4), 2, start_factor=0.5)(torch.tensor([0, 1, 2, 4])).tolist()
        [0.5, 0.75, 1.0, 0.5]
    """
    return bare(Schedule, _linear_warmup)


@core.constructor
def joined(
    schedules: Annotated[Sequence[Callable[[Tensor], Tensor]], NOT_EMPTY],
    boundaries: Sequence[PositiveInt],
) -> Schedule:
    """Join schedules one after the other; each counts its steps from its own beginning.

    Args:
        boundaries: the increasing steps at which each one except the first begins.

    Example:
        >>> from lincoln_fn.schedules import constant, linear
        >>> joined((constant(2.0), linear(1.0, 0.0, 4)), (3,))(torch.tensor([2, 3, 5])).tolist()
        [2.0, 1.0, 0.5]
    """
    _check_boundaries("joined", len(schedules), boundaries)
    return bare(Schedule, partial(_follow, rates=schedules))


def _wsd(step: Tensor, *, lr: float, warmup: int, steady: int, decay: int, lr_min: float) -> Tensor:
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
        warmup: the number of steps below lr at the start; step i has lr (i + 1) / (warmup + 1).
        steady: the number of steps at lr.
        decay: the length of the fall, at least 1.
        lr_min: the rate after the fall, at most lr.

    Source: Hu et al., "MiniCPM", 2024, section 4; Hägele et al., "Scaling Laws and Compute-Optimal
    Training Beyond Fixed Training Durations", 2024.

    Example:
        >>> wsd(1.0, 1, 2, 4)(torch.tensor([0, 1, 3, 5, 7, 8])).tolist()
        [0.5, 1.0, 1.0, 0.5, 0.0, 0.0]
    """
    core.require(lr_min <= lr, "wsd", "lr_min of at most lr", lr_min)
    return bare(Schedule, _wsd)


def _one_cycle(
    step: Tensor,
    *,
    ends: tuple[float, ...],
    rates: tuple[float, ...],
    along: Callable[[float, float, Tensor], Tensor],
) -> Tensor:
    """Go from rates[i] at step ends[i] to rates[i + 1] at step ends[i + 1]."""
    rate = torch.full_like(step, rates[0])
    for (begin, start), (stop, end) in pairwise(zip(ends, rates, strict=True)):
        share = ((step - begin) / (stop - begin)).clamp(0, 1)
        rate = torch.where(step >= begin, along(start, end, share), rate)
    return rate


def _along_cosine(start: float, end: float, share: Tensor) -> Tensor:
    return end + (start - end) / 2 * (1 + (math.pi * share).cos())


def _along_line(start: float, end: float, share: Tensor) -> Tensor:
    return start + (end - start) * share


@core.constructor
def one_cycle(
    max_lr: NonNegative,
    total_steps: PositiveInt,
    pct_start: Probability = 0.3,
    anneal_strategy: Literal["cos", "linear"] = "cos",
    div_factor: Positive = 25.0,
    final_div_factor: Positive = 1e4,
    three_phase: bool = False,
) -> Schedule:
    """Make a rate that rises and falls once: from max_lr / div_factor to max_lr, and down again.

    The rate rises for the share pct_start of the steps, and then falls to
    max_lr / div_factor / final_div_factor.

    Args:
        total_steps: the length of the cycle; after it, the last rate stays.
        anneal_strategy: "cos" or "linear", the shape of rise and fall.
        three_phase: whether the fall mirrors the rise, and a last phase falls further.

    Source: Smith and Topin, "Super-Convergence", 2018.

    Example:
        >>> cycle = one_cycle(1.0, 11, pct_start=0.5, anneal_strategy="linear", div_factor=10.0)
        >>> [round(rate, 5) for rate in cycle(torch.tensor([0, 4, 5, 10])).tolist()]
        [0.1, 0.9, 0.90909, 1e-05]
    """
    low = max_lr / div_factor
    top = pct_start * total_steps - 1
    ends, rates = [0.0, top], [low, max_lr]
    if three_phase:
        ends, rates = [*ends, 2 * pct_start * total_steps - 2], [*rates, low]
    ends, rates = [*ends, total_steps - 1.0], [*rates, low / final_div_factor]
    rising = all(a < b for a, b in pairwise(ends))
    phases = "total_steps and pct_start that make phases of at least a step"
    core.require(rising, "one_cycle", phases, (total_steps, pct_start))
    along = _along_cosine if anneal_strategy == "cos" else _along_line
    return bare(Schedule, partial(_one_cycle, ends=tuple(ends), rates=tuple(rates), along=along))


def _check_boundaries(name: str, count: int, boundaries: Sequence[int]) -> None:
    edges = (0, *boundaries)
    rising = all(a < b for a, b in pairwise(edges))
    what = f"{count - 1} boundaries that rise from above 0"
    core.require(rising and len(edges) == count, name, what, boundaries)
