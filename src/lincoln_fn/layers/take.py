"""Take: y is x at one index of an axis, such as the first token of every sequence.

Derivation. At index i of axis d,

    y_(... ...) = x_(... i ...)
    dx_(... j ...) = {(g_(... ...), if j = i), (0, otherwise):}

Cache: the shape of y, i, d, and the size of d in x.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, bare, record, stand_in, static, unexpected


@record
class Cache:
    y: Moved
    index: int = static()
    dim: int = static()
    size: int = static()


def forward(params: tuple[()], x: Elements, *, index: int, dim: int) -> tuple[Moved, Cache]:
    """Take x at the index of axis dim."""
    size = x.shape[dim] if -x.ndim <= dim < x.ndim else 0
    if not -size <= index < size:
        expected = f"x with an index {index} of axis {dim}"
        raise unexpected(f"take({index}, {dim})", expected, f"shape {tuple(x.shape)}")
    y = x.select(dim, index)
    return y, Cache(stand_in(y), index % size, dim % x.ndim, size)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Put g at the index, and 0 elsewhere."""
    is_index = torch.arange(cache.size, device=g.device) == cache.index
    behind = (1,) * (g.ndim - cache.dim)
    return torch.where(is_index.reshape(-1, *behind), g.unsqueeze(cache.dim), 0.0), ()


@core.constructor(kind="moving")
def take(index: int, dim: int) -> Layer:
    """Take one index of an axis: y has every axis of x but this one, and is a view of x.

    Args:
        index: which entry of the axis, counted from the end if it is negative.
        dim: the axis, counted from the end if it is negative; the batch is axis 0.

    Example:
        >>> take(0, -2).predict((), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]]))
        tensor([[1., 2.]])
    """
    return bare(Layer, forward, backward)
