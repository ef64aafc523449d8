"""Softsign: y = x / (1 + |x|), element by element.

Derivation. For x > 0, |x| = x and, by the quotient rule,

    (dy)/(dx) = (1 + |x| - |x|) / (1 + |x|)^2 = 1 / (1 + |x|)^2
    dx = g / (1 + |x|)^2

For x < 0, |x| = -x gives the same. At x = 0 both sides give 1, so there is no kink.

Cache: x.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x / (1 + |x|)."""
    return x / (1 + torch.abs(x)), x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g / (1 + |x|)^2."""
    return g / (1 + torch.abs(x)) ** 2, ()


@constructor(kind="activation")
def softsign() -> Layer:
    """Squash every number into (-1, 1), more slowly than tanh: y = x / (1 + |x|).

    Example:
        >>> softsign().predict((), torch.tensor([-1.0, 0.0, 3.0]))
        tensor([-0.5000,  0.0000,  0.7500])
    """
    return bare(Layer, forward, backward)
