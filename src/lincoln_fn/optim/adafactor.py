"""Adafactor: the running mean of dp^2, kept as the means of its rows and of its columns.

With t counting from 1, and s = t^beta2_decay, for a parameter of n numbers,

    alpha = max(eps2, |p| / sqrt(n)) min(lr, 1 / sqrt(t))
    p <- (1 - lr weight_decay) p
    r <- (1 - s) r + s mean(dp^2 over the last axis)
    c <- (1 - s) c + s mean(dp^2 over the last axis but one)
    v = r c / max(mean(r), eps1)
    u = dp / max(sqrt(v), eps1)
    p <- p - alpha u / max(1, |u| / (sqrt(n) d))

The product r c has the rows' and the columns' means of dp^2, up to the factor by which it is
divided. A matrix of 512 by 128 numbers needs 640, where Adam keeps 131,072. A parameter with fewer
than two axes keeps v itself: v <- (1 - s) v + s dp^2. In place of None, eps1 is the dtype's eps.

Adjoint. With w = 1 / max(sqrt(v), eps1), a = |u| / (sqrt(n) d), D = max(1, a) and M = mean(r),

    bar alpha = -sum u bar p / D
    bar u = -alpha bar p / D, and where a > 1 also alpha u sum(u bar p) / (D |u|^2)
    bar dp = w bar u
    bar v = -dp bar u w^3 / 2 where v > eps1^2, else 0
    bar r = sum(c bar v over the columns) / M, and where M > eps1 also -mean(sum(v bar v)) / M
    bar c = sum(r bar v over the rows) / M
    bar dp += 2 s dp (bar r / columns + bar c / rows)
    bar r <- (1 - s) bar r, bar c <- (1 - s) bar c
    bar p <- (1 - lr weight_decay) bar p
    bar p += bar alpha min(lr, 1 / sqrt(t)) p / (sqrt(n) |p|) where |p| / sqrt(n) > eps2
"""

from __future__ import annotations

import math
from typing import Annotated, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import NonNegative, Params, Range, at_least, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.leaves import LeafState, check_whole
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import take_step


@record
class SecondMoment(LeafState):
    """The means of dp^2 over the last axis and over the last but one, which have the length 1."""

    row: Tensor
    column: Tensor

    def fits(self, p: Tensor) -> bool:
        """Return whether this belongs to a parameter of p's shape."""
        return p.ndim > 1 and (self.row.shape, self.column.shape) == _shapes(p)


def _shapes(p: Tensor) -> tuple[tuple[int, ...], tuple[int, ...]]:
    *outer, rows, columns = p.shape
    return (*outer, rows, 1), (*outer, 1, columns)


# The mean of dp^2: of rows and columns, or of each number.
Moment: TypeAlias = SecondMoment | Tensor


@record
class AdafactorState:
    """The step count, and each mean of dp^2: a `SecondMoment`, or a tensor below two axes."""

    step: Tensor
    v: Params


def _zero_moment(p: Tensor) -> Moment:
    return torch.zeros_like(p) if p.ndim < 2 else SecondMoment(*map(p.new_zeros, _shapes(p)))


def rules(
    at: At,
    *,
    beta2_decay: float,
    eps: tuple[float | None, float],
    d: float,
    weight_decay: float | Tensor,
) -> Rules:
    """Compute p <- (1 - lr weight_decay) p - alpha u / max(1, |u| / (sqrt(n) d))."""
    share, largest_rate = at.t**beta2_decay, at.t.rsqrt()
    rate, shrink = largest_rate.clamp(max=at.lr), 1 - at.lr * weight_decay

    def rule(p: Tensor, dp: Tensor, moment: Moment) -> Row:
        alpha = rate * _size(p).clamp(min=eps[1])
        moment = _next_moment(moment, dp, share)
        eps1 = _least(eps[0], p.dtype)
        u = dp / _variance(moment, eps1).clamp(min=eps1 * eps1).sqrt()
        u = u / (_size(u) / d).clamp(min=1)
        return take_step(p * shrink if weight_decay else p, u, alpha), moment

    def adjoint(p: Tensor, dp: Tensor, moment: Moment, p_bar: Tensor, moment_bar: Moment) -> Row:
        eps1, moment = _least(eps[0], p.dtype), _next_moment(moment, dp, share)
        v = _variance(moment, eps1)
        w = v.clamp(min=eps1 * eps1).rsqrt()
        u, size = dp * w, _size(p)
        a, along = _size(u) / d, (u * p_bar).sum()
        largest = a.clamp(min=1)
        alpha, alpha_bar = rate * size.clamp(min=eps[1]), -along / largest
        of_norm = torch.where(a > 1, alpha * along / (largest * (u * u).sum()), 0)
        u_bar = of_norm * u - alpha / largest * p_bar
        v_bar = torch.where(v > eps1 * eps1, -0.5 * dp * u_bar * w**3, 0)
        moment_bar, square_bar = _moment_adjoint(moment, v_bar, moment_bar, eps1, share)
        of_size = torch.where(size > eps[1], alpha_bar * rate / (p.numel() * size), 0)
        of_rate = torch.where(at.lr < largest_rate, alpha_bar * size.clamp(min=eps[1]), 0)
        of_decay = (p * p_bar).sum()
        products = {"lr": of_rate - weight_decay * of_decay, "weight_decay": -at.lr * of_decay}
        p_bar = shrink * p_bar + of_size * p
        return p_bar, w * u_bar + 2 * dp * square_bar, moment_bar, products

    return rule, adjoint


def _size(x: Tensor) -> Tensor:
    """Compute |x| / sqrt(n), the root of the mean square."""
    size: Tensor = torch.linalg.vector_norm(x) / math.sqrt(max(x.numel(), 1))
    return size


def _next_moment(moment: Moment, dp: Tensor, share: Tensor) -> Moment:
    square = dp * dp
    share = share.to(square.dtype)
    if isinstance(moment, Tensor):
        return torch.lerp(moment, square, share)
    row, column = square.mean(-1, keepdim=True), square.mean(-2, keepdim=True)
    return SecondMoment(
        torch.lerp(moment.row, row, share), torch.lerp(moment.column, column, share)
    )


def _variance(moment: Moment, eps: float) -> Tensor:
    if isinstance(moment, Tensor):
        return moment
    return moment.row * moment.column / moment.row.mean(-2, keepdim=True).clamp(min=eps)


def _least(eps: float | None, dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps if eps is None else eps


def _moment_adjoint(
    moment: Moment, v_bar: Tensor, bar: Moment, eps: float, share: Tensor
) -> tuple[Moment, Tensor]:
    """Compute the bars of the old means, and that of dp^2."""
    if isinstance(bar, Tensor):
        v_bar = v_bar + bar
        return (1 - share) * v_bar, share * v_bar
    assert isinstance(moment, SecondMoment)  # a bar is of the moment's kind
    row, column = moment.row, moment.column
    mean = row.mean(-2, keepdim=True)
    total = (_variance(moment, eps) * v_bar).sum((-2, -1), keepdim=True)
    least = mean.clamp(min=eps)
    of_mean = torch.where(mean > eps, total / least, 0) / row.shape[-2]
    row_bar = bar.row + (column * v_bar).sum(-1, keepdim=True) / least - of_mean
    column_bar = bar.column + (row * v_bar).sum(-2, keepdim=True) / least
    square_bar = share * (row_bar / column.shape[-1] + column_bar / row.shape[-2])
    return SecondMoment((1 - share) * row_bar, (1 - share) * column_bar), square_bar


@constructor
def adafactor(
    lr: LearningRate = 1e-2,
    beta2_decay: Annotated[float, Range("of at most 0", lambda value: value <= 0)] = -0.8,
    eps: tuple[NonNegative | None, NonNegative] = (None, 1e-3),
    d: Annotated[float, at_least(1)] = 1.0,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adafactor: p <- p - alpha u / max(1, |u| / (sqrt(n) d)), u = dp / sqrt(v).

    v is the running mean of dp^2. Of a matrix, only the means of its rows and of its columns are
    kept. The size of a step, alpha = min(lr, 1 / sqrt(t)) max(eps2, |p| / sqrt(n)), is relative to
    the size of the parameter, which has n numbers.

    Args:
        lr: the largest relative size of a step, at least 0, or a schedule.
        beta2_decay: how fast v forgets: step t enters with the weight t^beta2_decay; at most 0.
        eps: eps1, the least sqrt(v), None for the dtype's eps; and eps2, the least size of a
            parameter that counts in alpha.
        d: the largest root of the mean square of u, at least 1.
        weight_decay: how strongly p decays.

    Source: Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost",
    2018, algorithm 4, in the form of torch.optim.Adafactor.

    Example:
        >>> optimizer, params = adafactor(0.5), torch.ones(2, 3)
        >>> params, state = optimizer.update(params, params, optimizer.init(params))
        >>> params[0], state.v.row.shape, state.v.column.shape
        (tensor([0.5000, 0.5000, 0.5000]), torch.Size([2, 1]), torch.Size([1, 3]))
    """
    return leafwise(AdafactorState, rules, {"step": True, "v": _zero_moment}, check=check_whole)
