"""Smooth absolute error: quadratic where |d| < beta, linear beyond, with d = prediction - target.

Derivation. At |d| = beta the parabola's slope d / beta has the size 1, and the line keeps it:

    l = {(d^2 / (2 beta), if |d| < beta), (|d| - beta / 2, otherwise):}
    (dl)/(dd) = {(d / beta, if |d| < beta), (sign(d), otherwise):} = clamp(d / beta, -1, 1)
    dprediction = clamp(d / beta, -1, 1) dl

At beta = 0 it is the absolute error: l = |d| and dprediction = sign(d) dl.

Cache: d. Source: Girshick, "Fast R-CNN", 2015, equation 3 (with beta = 1).
"""

from __future__ import annotations

import torch

from lincoln_fn.core import NonNegative, constructor
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss, same_shape


def forward(prediction: Elements, target: Elements, *, beta: float) -> tuple[Elements, Elements]:
    """Compute l = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    d = prediction - target
    size = d.abs()
    return torch.where(size < beta, d * d / (2 * beta), size - beta / 2) if beta else size, d


def backward(d: Elements, dl: Cotangent, *, beta: float) -> Elements:
    """Compute dprediction = clamp(d / beta, -1, 1) dl."""
    return ((d / beta).clamp(-1, 1) if beta else d.sign()) * dl


@constructor
def smooth_l1(*, beta: NonNegative = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error with its corner rounded off.

    l = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = prediction - target; at beta
    = 0, |d|. Predictions have any shape, and targets the same.

    Example:
        >>> loss = lf.losses.smooth_l1(beta=2.0, reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.2500), tensor([0.5000, 1.0000]))
    """
    return make_loss(forward, backward, reads=same_shape)
