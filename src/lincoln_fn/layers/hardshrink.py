"""Hard shrinkage: y = 0 where |x| <= l, else x, element by element.

Derivation. With l = lambd at least 0, the slope is 1 for |x| > l and 0 for |x| < l. At |x| = l,
where y jumps, 0 is used, as in torch:

    dx = {(g, if y != 0), (0, otherwise):}    since y != 0 where |x| > l

Cache: y, which shows the piece of each element, so x is not kept.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, NonNegative, bare, constructor


def forward(params: tuple[()], x: Elements, *, lambd: float) -> tuple[Elements, Elements]:
    """Compute y = 0 where |x| <= l, else x."""
    y = torch.where(torch.abs(x) <= lambd, 0, x)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where y != 0, else 0."""
    return torch.where(y != 0, g, 0), ()


@constructor(kind="activation")
def hardshrink(lambd: NonNegative = 0.5) -> Layer:
    """Replace what is near 0 by 0: y = 0 where |x| <= lambd, else x.

    Example:
        >>> hardshrink().predict((), torch.tensor([-1.0, 0.5, 2.0]))
        tensor([-1.,  0.,  2.])
    """
    return bare(Layer, forward, backward)
