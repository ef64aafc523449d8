"""Hinge loss on distances x: small where y = 1, at least the margin where y = -1.

Derivation. With z = margin - x,

    l = {(x, if y = 1), (max(0, z), if y = -1):}
    (dl)/(dx) = {(1, if y = 1), (-1, if y = -1 and z >= 0), (0, otherwise):}
    dx = y dl where y = 1 or z >= 0, else 0    at z = 0, max(0, z) has slope 1

Cache: y and z.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, signs


def forward(x: Elements, y: Elements, *, margin: float) -> tuple[Elements, Tensors]:
    """Compute l = x where y = 1, and max(0, margin - x) where y = -1."""
    z = margin - x
    return torch.where(y > 0, x, z.clamp(min=0)), (y, z)


def backward(cache: Tensors, dl: Cotangent) -> Elements:
    """Compute dx = y dl where y = 1 or z >= 0, else 0."""
    y, z = cache
    return y * ((y > 0) | (z >= 0)) * dl


@constructor
def hinge_embedding(*, margin: float = 1.0, reduction: Reduction = "mean") -> Loss:
    """Make the hinge loss on distances x: small where y = 1, at least the margin where y = -1.

    l = x where y = 1, and max(0, margin - x) where y = -1. x has any shape, and the labels y, 1 or
    -1, the same.

    Example:
        >>> loss = lf.losses.hinge_embedding(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.25, 0.25]), torch.tensor([1, -1]))
        >>> value, loss.backward(cache)
        (tensor(1.), tensor([ 1., -1.]))
    """
    return make_loss(forward, backward, reads=signs)
