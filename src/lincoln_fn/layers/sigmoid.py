"""Sigmoid: y = 1 / (1 + e^(-x)), element by element.

Derivation. With y = (1 + e^(-x))^(-1),

    (dy)/(dx) = e^(-x) (1 + e^(-x))^(-2) = y (1 - y)    since e^(-x) y = 1 - y
    dx = g y (1 - y)

Cache: y.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = 1 / (1 + e^(-x))."""
    y = torch.sigmoid(x)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g y (1 - y)."""
    return g * y * (1 - y), ()


@constructor(kind="activation")
def sigmoid() -> Layer:
    """Squash every number into (0, 1): y = 1 / (1 + e^(-x)).

    Example:
        >>> sigmoid().predict((), torch.tensor([-2.0, 0.0, 2.0]))
        tensor([0.1192, 0.5000, 0.8808])
    """
    return bare(Layer, forward, backward)
