"""Smooth absolute error: quadratic where |d| < beta, linear beyond, with d = prediction - target.

Derivation. At |d| = beta the parabola's slope d / beta has the size 1, and the line keeps it:

    l = {(d^2 / (2 beta), if |d| < beta), (|d| - beta / 2, otherwise):}
    (dl)/(dd) = {(d / beta, if |d| < beta), (sign(d), otherwise):} = clamp(d / beta, -1, 1)
    dprediction = clamp(d / beta, -1, 1) dl

At beta = 0 it is the absolute error: l = |d| and dprediction = sign(d) dl.

Cache: d and beta. Source: Girshick, "Fast R-CNN", 2015, equation 3 (with beta = 1).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import NonNegative, constructor, record, static
from lincoln_fn.losses.common.reduction import Cotangent, make_loss
from lincoln_fn.losses.common.targets import same_shape
from lincoln_fn.losses.loss import Loss, Reduction


@record
class Cache:
    """The difference and beta."""

    d: Float[Tensor, "*s"]
    beta: float = static()


def forward(
    prediction: Float[Tensor, "*s"], target: Tensor, *, beta: float
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute l = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2."""
    d = prediction - same_shape("smooth_l1", target, prediction)
    size = d.abs()
    if not beta:
        return size, Cache(d, beta)
    return torch.where(size < beta, d * d / (2 * beta), size - beta / 2), Cache(d, beta)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "*s"]:
    """Compute dprediction = clamp(d / beta, -1, 1) dl."""
    if not cache.beta:
        return cache.d.sign() * dl
    return (cache.d / cache.beta).clamp(-1, 1) * dl


@constructor
def smooth_l1(*, beta: NonNegative = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error with its corner rounded off.

    l = d^2 / (2 beta) where |d| < beta, else |d| - beta / 2, with d = prediction - target; at
    beta = 0, |d|.

    Args:
        beta: the |d| at which the parabola becomes a line.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on predictions of any shape and targets of that shape.

    Raises:
        ValueError: if there is no such reduction, or beta is below 0.

    Source: Girshick, "Fast R-CNN", 2015.

    Example:
        >>> loss = lf.losses.smooth_l1(beta=2.0, reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.2500), tensor([0.5000, 1.0000]))
    """
    return make_loss(reduction, forward, backward)
