"""The one-cycle schedule."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from itertools import pairwise
from typing import Literal

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NonNegative, Positive, PositiveInt, Probability, bare, constructor
from lincoln_fn.schedules.schedule import Schedule


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


@constructor
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
    max_lr / div_factor / final_div_factor. With three phases, the second mirrors the first.

    Args:
        max_lr: the highest rate.
        total_steps: the length of the cycle; after it, the last rate stays.
        pct_start: the share of steps in the rise, in [0, 1].
        anneal_strategy: "cos" or "linear", the shape of rise and fall.
        div_factor: max_lr divided by the first rate.
        final_div_factor: the first rate divided by the last one.
        three_phase: whether the fall takes as many steps as the rise, followed by a last phase that
            falls further.

    Raises:
        ValueError: if an argument is out of its range, or a phase is too short.

    Source: Smith and Topin, "Super-Convergence: Very Fast Training of Neural Networks Using Large
    Learning Rates", 2018.

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
    at = partial(_one_cycle, ends=tuple(ends), rates=tuple(rates), along=along)
    return bare(Schedule, at)
