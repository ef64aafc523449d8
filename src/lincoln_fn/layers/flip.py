"""Flip: y is x with the order of its elements reversed along axes.

Derivation. Along an axis of n elements,

    y_i = x_(n - 1 - i)
    dx_i = g_(n - 1 - i)

so dx is g flipped along the same axes.

Cache: the shape, and the axes.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor, record, require, static
from lincoln_fn.layers.common.inputs import axes_of


@record
class Cache:
    x: Elements
    axes: tuple[int, ...] = static()


def forward(params: tuple[()], x: Elements, *, dims: tuple[int, ...]) -> tuple[Elements, Cache]:
    """Compute y_i = x_(n - 1 - i)."""
    axes = axes_of("flip", x, dims)
    return torch.flip(x, axes), Cache(x.new_zeros(()).expand(x.shape), axes)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx_i = g_(n - 1 - i)."""
    return torch.flip(g, cache.axes), ()


@constructor(kind="moving", along="axes")
def flip(*dims: int) -> Layer:
    """Reverse the order of x's elements along the axes dims, at least one, as `torch.flip`.

    Example:
        >>> flip(-1).predict((), torch.tensor([[1.0, 2.0, 3.0]]))
        tensor([[3., 2., 1.]])
    """
    require(len(dims) > 0, "flip", "at least one of dims", dims)
    return bare(Layer, forward, backward)
