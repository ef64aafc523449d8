"""Rectified linear unit: y = max(x, 0), element by element.

Derivation. For x > 0, y = x and the slope is 1. For x < 0, y = 0 and the slope is 0. At x = 0 there
is no derivative, and 0 is used, as in torch:

    (dy)/(dx) = {(1, if x > 0), (0, otherwise):}
    dx = {(g, if y > 0), (0, otherwise):}    since y > 0 where x > 0

Cache: y, which shows the side of each element, so x is not kept.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = max(x, 0)."""
    y = torch.relu(x)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where y > 0, else 0."""
    return torch.where(y > 0, g, 0), ()


@constructor(kind="activation")
def relu() -> Layer:
    """Keep what is positive: y = max(x, 0), the rectified linear unit.

    Example:
        >>> relu().predict((), torch.tensor([-1.0, 0.0, 2.0]))
        tensor([0., 0., 2.])
    """
    return bare(Layer, forward, backward)
