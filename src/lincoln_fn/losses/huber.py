"""Huber loss: quadratic where |d| < delta, linear beyond, with d = prediction - target.

Derivation. The line continues the parabola with its slope at |d| = delta:

    l = {(d^2 / 2, if |d| < delta), (delta (|d| - delta / 2), otherwise):}
    (dl)/(dd) = {(d, if |d| < delta), (delta sign(d), otherwise):} = clamp(d, -delta, delta)
    dprediction = clamp(d, -delta, delta) dl

Cache: d. Source: Huber, "Robust Estimation of a Location Parameter", 1964.
"""

from __future__ import annotations

from typing import Annotated

import torch

from lincoln_fn.core import OR_INFINITE, Positive, constructor
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss, same_shape


def forward(prediction: Elements, target: Elements, *, delta: float) -> tuple[Elements, Elements]:
    """Compute l = d^2 / 2 where |d| < delta, else delta (|d| - delta / 2)."""
    d = prediction - target
    size = d.abs()
    return torch.where(size < delta, d * d / 2, delta * (size - delta / 2)), d


def backward(d: Elements, dl: Cotangent, *, delta: float) -> Elements:
    """Compute dprediction = clamp(d, -delta, delta) dl."""
    return d.clamp(-delta, delta) * dl


@constructor
def huber(*, delta: Annotated[Positive, OR_INFINITE] = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make Huber's loss, on which outliers have less influence than on the squared error.

    l = d^2 / 2 where |d| < delta, else delta (|d| - delta / 2), with d = prediction - target.
    Predictions have any shape, and targets the same.

    Example:
        >>> loss = lf.losses.huber(delta=2.0, reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(4.5000), tensor([1., 2.]))
    """
    return make_loss(forward, backward, reads=same_shape)
