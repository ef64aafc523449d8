"""Hyperbolic tangent: y = (e^x - e^(-x)) / (e^x + e^(-x)), element by element.

Derivation. With s = sinh x and c = cosh x, y = s / c, s' = c and c' = s:

    (dy)/(dx) = (c c - s s) / c^2 = 1 - y^2
    dx = g (1 - y^2)

Cache: y.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = (e^x - e^(-x)) / (e^x + e^(-x))."""
    y = torch.tanh(x)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g (1 - y^2)."""
    return g * (1 - y**2), ()


@constructor(kind="activation")
def tanh() -> Layer:
    """Squash every number into (-1, 1): y = (e^x - e^(-x)) / (e^x + e^(-x)).

    Example:
        >>> tanh().predict((), torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.7616,  0.0000,  0.7616])
    """
    return bare(Layer, forward, backward)
