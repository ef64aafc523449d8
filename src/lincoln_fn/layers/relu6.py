"""Rectified linear unit with a ceiling: y = min(max(x, 0), 6), element by element.

Derivation. For 0 < x < 6, y = x and the slope is 1. Outside, y is constant and the slope is 0. At
x = 0 and x = 6 there is no derivative, and 0 is used, as in torch:

    (dy)/(dx) = {(1, if 0 < x < 6), (0, otherwise):}
    dx = {(g, if 0 < y < 6), (0, otherwise):}    since 0 < y < 6 where 0 < x < 6

Cache: y, which shows the piece of each element, so x is not kept.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = min(max(x, 0), 6)."""
    y = torch.clamp(x, 0, 6)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where 0 < y < 6, else 0."""
    return torch.where((y > 0) & (y < 6), g, 0), ()


@constructor(kind="activation")
def relu6() -> Layer:
    """Keep what is positive, up to a ceiling: y = min(max(x, 0), 6).

    Example:
        >>> relu6().predict((), torch.tensor([-1.0, 2.0, 7.0]))
        tensor([0., 2., 6.])
    """
    return bare(Layer, forward, backward)
