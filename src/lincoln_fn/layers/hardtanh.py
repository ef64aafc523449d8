"""Hard tanh: y = min(max(x, low), high), element by element.

Derivation. With low = min_val and high = max_val, y = x and the slope is 1 between them. Outside, y
is constant and the slope is 0. At low and high there is no derivative, and 0 is used, as in torch:

    dx = {(g, if low < x < high), (0, otherwise):}

Cache: x, low and high. y is not enough: rounding to bfloat16 may change low and high.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Bound, Elements, Layer, bare, constructor, record, require, static


@record
class Cache:
    x: Elements
    min_val: float = static()
    max_val: float = static()


def forward(
    params: tuple[()], x: Elements, *, min_val: float, max_val: float
) -> tuple[Elements, Cache]:
    """Compute y = min(max(x, low), high)."""
    return torch.clamp(x, min_val, max_val), Cache(x, min_val, max_val)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where low < x < high, else 0."""
    return torch.where((cache.x > cache.min_val) & (cache.x < cache.max_val), g, 0), ()


@constructor(kind="activation")
def hardtanh(min_val: Bound = -1.0, max_val: Bound = 1.0) -> Layer:
    """Clamp x to a range: y = min(max(x, min_val), max_val).

    Raises:
        LayerError: if max_val is not above min_val.

    Example:
        >>> hardtanh(0.0, 2.0).predict((), torch.tensor([-3.0, 1.5, 3.0]))
        tensor([0.0000, 1.5000, 2.0000])
    """
    require(min_val < max_val, "hardtanh", "min_val below max_val", (min_val, max_val))
    return bare(Layer, forward, backward)
