"""Soft shrinkage: y = x - l for x > l, x + l for x < -l, else 0, element by element.

Derivation. With l = lambd at least 0, the slope is 1 for |x| > l and 0 for |x| < l. At |x| = l
there is no derivative, and 0 is used, as in torch:

    y = x - min(max(x, -l), l)
    dx = {(g, if y != 0), (0, otherwise):}    since y != 0 where |x| > l

The difference of two different numbers does not round to 0, so this holds for rounded y too.

Cache: y, which shows the piece of each element, so x is not kept.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, NonNegative, bare, constructor


def forward(params: tuple[()], x: Elements, *, lambd: float) -> tuple[Elements, Elements]:
    """Compute y = x - min(max(x, -l), l)."""
    y = x - torch.clamp(x, -lambd, lambd)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where y != 0, else 0."""
    return torch.where(y != 0, g, 0), ()


@constructor(kind="activation")
def softshrink(lambd: NonNegative = 0.5) -> Layer:
    """Move every number towards 0 by at most lambd: y = x - min(max(x, -lambd), lambd).

    Example:
        >>> softshrink().predict((), torch.tensor([-1.0, 0.5, 2.0]))
        tensor([-0.5000,  0.0000,  1.5000])
    """
    return bare(Layer, forward, backward)
