"""Losses for numbers: functions of the difference d = prediction - target.

Derivation. With l = f(d), and d growing as the prediction does,

    dl/dprediction = f'(d).

The target has the prediction's shape, whatever that is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.losses.labels import same_shape
from lincoln_fn.losses.loss import Loss, Reduction, reduced, require

Values: TypeAlias = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
Slope: TypeAlias = Callable[[Tensor, Tensor | float], Tensor]


def mse(*, reduction: Reduction = "mean") -> Loss:
    """Make the squared error.

    f(d) = d^2 and f'(d) = 2 d.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = mse()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(5.), tensor([1., 3.]))
    """
    return reduced("mse", reduction, *_of_difference("mse", lambda d: d * d, lambda d: 2 * d))


def l1(*, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error.

    f(d) = |d| and f'(d) = sign d, taken as 0 at d = 0.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = l1()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.), tensor([0.5000, 0.5000]))
    """
    return reduced("l1", reduction, *_of_difference("l1", torch.abs, torch.sign))


def smooth_l1(*, beta: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error with its corner rounded off (Girshick, "Fast R-CNN", 2015).

    f(d) = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2; at beta = 0, |d|.

    Derivation. f' is d / beta inside and sign d outside, which is d / beta limited to [-1, 1].

    Args:
        beta: where the parabola ends and the line begins.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction, or beta is below 0.

    Example:
        >>> loss = smooth_l1(beta=2.0, reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.2500), tensor([0.5000, 1.0000]))
    """
    require("smooth_l1", beta >= 0, "beta of at least 0", beta)

    def f(d: Tensor) -> Tensor:
        size = d.abs()
        return torch.where(size < beta, size * size / (2 * beta), size - beta / 2)

    def df(d: Tensor) -> Tensor:
        return (d / beta).clamp(-1, 1)

    both = (f, df) if beta else (torch.abs, torch.sign)
    functions = _of_difference("smooth_l1", *both)
    return reduced("smooth_l1", reduction, *functions, beta=(beta, 1.0))


def huber(*, delta: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make Huber's loss ("Robust Estimation of a Location Parameter", 1964).

    f(d) = d^2 / 2 where |d| < delta, else delta (|d| - delta / 2).

    Derivation. f' is d inside and delta sign d outside, which is d limited to [-delta, delta].

    Args:
        delta: where the parabola ends and the line begins.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss.

    Raises:
        ValueError: if there is no such reduction, or delta is not above 0.

    Example:
        >>> loss = huber(delta=2.0, reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(4.5000), tensor([1., 2.]))
    """
    require("huber", delta > 0, "delta above 0", delta)

    def f(d: Tensor) -> Tensor:
        size = d.abs()
        return torch.where(size < delta, size * size / 2, delta * (size - delta / 2))

    def df(d: Tensor) -> Tensor:
        return d.clamp(-delta, delta)

    functions = _of_difference("huber", f, df)
    return reduced("huber", reduction, *functions, delta=(delta, 1.0))


def _of_difference(
    name: str, f: Callable[[Tensor], Tensor], df: Callable[[Tensor], Tensor]
) -> tuple[Values, Slope]:
    """Make the two functions that `reduced` takes, of f and its derivative."""

    def values(prediction: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        d = prediction - same_shape(name, target, prediction)
        return f(d), d

    def slope(d: Tensor, dl: Tensor | float) -> Tensor:
        return df(d) * dl

    return values, slope
