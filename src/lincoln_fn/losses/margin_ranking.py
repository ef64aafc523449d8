"""Ranking loss: score x_1 should be above x_2 by the margin if y = 1, and below it if y = -1.

Derivation. Where y = 1, x_1 should be above x_2, and where y = -1 below it:

    z = margin - y (x_1 - x_2)
    l = max(0, z)
    dx_2 = y dl where z >= 0, else 0    at z = 0, max(0, z) has slope 1
    dx_1 = -dx_2

Cache: y and z.
"""

from __future__ import annotations

from lincoln_fn.core import Elements, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, signs

Pair = tuple[Elements, Elements]


def forward(x: Pair, y: Elements, *, margin: float) -> tuple[Elements, Tensors]:
    """Compute l = max(0, margin - y (x1 - x2))."""
    x1, x2 = x
    z = margin - y * (x1 - x2)
    return z.clamp(min=0), (y, z)


def backward(cache: Tensors, dl: Cotangent) -> Pair:
    """Compute dx2 = y dl where z >= 0, else 0, and dx1 = -dx2."""
    y, z = cache
    dx2 = y * (z >= 0) * dl
    return -dx2, dx2


@constructor
def margin_ranking(*, margin: float = 0.0, reduction: Reduction = "mean") -> Loss:
    """Make the ranking loss: score x1 should be above x2 where y = 1, and below it where y = -1.

    l = max(0, margin - y (x1 - x2)). x1, x2 and the labels y, 1 or -1, have one shape.

    Example:
        >>> loss = lf.losses.margin_ranking(margin=0.5)
        >>> x1, x2 = torch.tensor([1.0]), torch.tensor([3.0])
        >>> value, cache = loss.forward((x1, x2), torch.tensor([1]))
        >>> value, loss.backward(cache)
        (tensor(2.5000), (tensor([-1.]), tensor([1.])))
    """
    names = {"inputs": ("x1", "x2"), "like": {"x2": "x1"}}
    return make_loss(forward, backward, reads=signs, **names)
