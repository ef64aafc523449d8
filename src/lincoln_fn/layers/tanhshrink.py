"""Tanh shrinkage: y = x - tanh(x), element by element.

Derivation. With t = tanh x and (dt)/(dx) = 1 - t^2,

    (dy)/(dx) = 1 - (1 - t^2) = t^2
    dx = g t^2

Near x = 0 the difference keeps no digit of y = x^3 / 3 - ..., so for |x| < 1 it is computed by
Lambert's continued fraction, in which nothing cancels:

    tanh x = x / (1 + q)
    q = x^2 / (3 + x^2 / (5 + x^2 / (7 + ...)))
    y = x - x / (1 + q) = x q / (1 + q)

Cut off after the 17, q is accurate to float64's rounding error.

Cache: t.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x q / (1 + q) where |x| < 1, else x - t."""
    t = torch.tanh(x)
    square = torch.clamp(x, -1, 1) ** 2
    q = square / 17
    for odd in (15, 13, 11, 9, 7, 5, 3):
        q = square / (odd + q)
    return torch.where(torch.abs(x) < 1, x * q / (1 + q), x - t), t


def backward(params: tuple[()], t: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g t^2."""
    return g * t**2, ()


@constructor(kind="activation")
def tanhshrink() -> Layer:
    """Shrink every number by its hyperbolic tangent: y = x - tanh(x).

    Example:
        >>> tanhshrink().predict((), torch.tensor([-2.0, 0.0, 1.0]))
        tensor([-1.0360,  0.0000,  0.2384])
    """
    return bare(Layer, forward, backward)
