"""The schedule protocol, a learning rate for every step, and the schedules."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise
from typing import Annotated, Literal, TypeAlias

import attrs
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
)


@attrs.frozen(eq=False, repr=False)
class Schedule(core.Made):
    """A learning rate for every step.

    Args:
        name: the code that makes it; its repr.
        at: float64 steps -> rates, element by element.

    Example:
        >>> halving = Schedule("halving()", lambda step: 0.5**step)
        >>> halving, halving(torch.tensor([0, 1, 2]))
        (halving(), tensor([1.0000, 0.5000, 0.2500], dtype=torch.float64))
    """

    name: str
    at: Callable[[Tensor], Tensor]

    def __call__(self, step: Tensor | int) -> Tensor:
        """Compute the rate of one step, or of each step in a tensor, for a plot."""
        return self.at(torch.as_tensor(step).double())


def _constant(step: Tensor, *, lr: float) -> Tensor:
    return torch.full_like(step, lr)


@core.constructor
def constant(lr: NonNegative) -> Schedule:
    """Make a constant rate: lr.

    Example:
        >>> constant(0.5)(7).item()
        0.5
    """
    return bare(Schedule, _constant)


def _exponential(step: Tensor, *, lr: float, gamma: float, every: int, staircase: bool) -> Tensor:
    times = step / every
    return lr * gamma ** (times.floor() if staircase else times)


@core.constructor
def exponential(
    lr: NonNegative, gamma: NonNegative, every: PositiveInt = 1, staircase: bool = False
) -> Schedule:
    """Make a rate that falls exponentially: lr gamma^(step / every).

    Args:
        staircase: whether it falls in jumps, once every `every` steps.

    Example:
        >>> exponential(0.5, 0.25, every=2, staircase=True)(torch.tensor([1, 2])).tolist()
        [0.5, 0.125]
    """
    return bare(Schedule, _exponential)


def _linear(step: Tensor, *, start: float, end: float, steps: int) -> Tensor:
    return start + (end - start) * (step / steps).clamp(max=1)


@core.constructor
def linear(start: NonNegative, end: NonNegative, steps: PositiveInt) -> Schedule:
    """Make a rate that changes linearly from start to end in `steps` steps, and then stays.

    Example:
        >>> linear(0.0, 1.0, 4)(torch.tensor([0, 1, 4, 5])).tolist()
        [0.0, 0.25, 1.0, 1.0]
    """
    return bare(Schedule, _linear)


def _polynomial(step: Tensor, *, lr: float, steps: int, power: float) -> Tensor:
    return lr * (1 - (step / steps).clamp(max=1)) ** power


@core.constructor
def polynomial(lr: NonNegative, steps: PositiveInt, power: NonNegative = 1.0) -> Schedule:
    """Make a rate that falls to 0 in `steps` steps: lr (1 - step / steps)^power.

    Example:
        >>> polynomial(1.0, 4, power=2.0)(torch.tensor([0, 2, 4, 5])).tolist()
        [1.0, 0.25, 0.0, 0.0]
    """
    return bare(Schedule, _polynomial)


def _cosine(step: Tensor, *, lr: float, steps: int, lr_min: float) -> Tensor:
    """Compute lr_min + (lr - lr_min) (1 + cos(pi s)) / 2, with s = min(step / steps, 1)."""
    return lr_min + (lr - lr_min) / 2 * (1 + (math.pi * step / steps).clamp(max=math.pi).cos())


@core.constructor
def cosine(lr: NonNegative, steps: PositiveInt, lr_min: NonNegative = 0.0) -> Schedule:
    """Make a rate that falls along half a cosine: lr_min + (lr - lr_min) (1 + cos(pi s)) / 2.

    Here s = step / steps, and s stays 1 after that.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
    equation 5.

    Example:
        >>> cosine(1.0, 4)(torch.tensor([0, 2, 4, 5])).tolist()
        [1.0, 0.5, 0.0, 0.0]
    """
    return bare(Schedule, _cosine)


def _inverse_sqrt(step: Tensor, *, lr: float, warmup: int) -> Tensor:
    share = (step + 1) / warmup
    return lr * torch.minimum(share, share.rsqrt())


@core.constructor
def inverse_sqrt(lr: NonNegative, warmup: PositiveInt) -> Schedule:
    """Make a rate that rises linearly to lr, and then falls as 1 / sqrt(t).

    With t = step + 1, it is lr min(t / warmup, sqrt(warmup / t)). It needs no length of the run.

    Source: Vaswani et al., "Attention Is All You Need", 2017, equation 3, for
    lr = 1 / sqrt(d_model warmup).

    Example:
        >>> inverse_sqrt(1.0, 4)(torch.tensor([0, 3, 15])).tolist()
        [0.25, 1.0, 0.5]
    """
    return bare(Schedule, _inverse_sqrt)


def _cosine_restarts(step: Tensor, *, lr: float, steps: int, factor: int, lr_min: float) -> Tensor:
    """Fall along half a cosine, again and again; cycle i takes steps factor^i steps."""
    if factor == 1:
        share = (step % steps) / steps
    else:
        # Cycles 0 to i - 1 take steps (factor^i - 1) / (factor - 1) steps.
        total = 1 + step * (factor - 1) / steps
        cycle = (total.log() / math.log(factor) + 1e-9).floor()
        length = steps * float(factor) ** cycle
        share = (step - (length - steps) / (factor - 1)) / length
    return lr_min + (lr - lr_min) / 2 * (1 + (math.pi * share).cos())


@core.constructor
def cosine_restarts(
    lr: NonNegative, steps: PositiveInt, factor: PositiveInt = 1, lr_min: NonNegative = 0.0
) -> Schedule:
    """Make a rate that falls along half a cosine, and begins again at lr.

    Within a cycle, the rate is lr_min + (lr - lr_min) (1 + cos(pi s)) / 2, with s the share of the
    cycle's steps that are taken.

    Args:
        steps: the length of the first cycle, at least 1.
        factor: how many times as long as a cycle the next one is, at least 1.

    Source: that of `cosine`; torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.

    Example:
        >>> cosine_restarts(1.0, 2, factor=2)(torch.tensor([0, 1, 2, 4, 6])).tolist()
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    return bare(Schedule, _cosine_restarts)


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
