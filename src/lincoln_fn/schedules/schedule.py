"""The schedule protocol, a learning rate for every step; and schedules of one formula."""

from __future__ import annotations

import math
from collections.abc import Callable

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Made, NonNegative, PositiveInt, bare, constructor


@attrs.frozen(eq=False, repr=False)
class Schedule(Made):
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


@constructor
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


@constructor
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


@constructor
def linear(start: NonNegative, end: NonNegative, steps: PositiveInt) -> Schedule:
    """Make a rate that changes linearly from start to end in `steps` steps, and then stays.

    Example:
        >>> linear(0.0, 1.0, 4)(torch.tensor([0, 1, 4, 5])).tolist()
        [0.0, 0.25, 1.0, 1.0]
    """
    return bare(Schedule, _linear)


def _polynomial(step: Tensor, *, lr: float, steps: int, power: float) -> Tensor:
    return lr * (1 - (step / steps).clamp(max=1)) ** power


@constructor
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


@constructor
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


@constructor
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


@constructor
def cosine_restarts(
    lr: NonNegative, steps: PositiveInt, factor: PositiveInt = 1, lr_min: NonNegative = 0.0
) -> Schedule:
    """Make a rate that falls along half a cosine, and begins again at lr.

    Within a cycle, the rate is lr_min + (lr - lr_min) (1 + cos(pi s)) / 2, with s the share of the
    cycle's steps that are taken.

    Args:
        steps: the length of the first cycle, at least 1.
        factor: how many times as long as a cycle the next one is, at least 1.

    Source: Loshchilov and Hutter, "SGDR: Stochastic Gradient Descent with Warm Restarts", 2017,
    equation 5; torch.optim.lr_scheduler.CosineAnnealingWarmRestarts.

    Example:
        >>> cosine_restarts(1.0, 2, factor=2)(torch.tensor([0, 1, 2, 4, 6])).tolist()
        [1.0, 0.5, 1.0, 0.5, 1.0]
    """
    return bare(Schedule, _cosine_restarts)
