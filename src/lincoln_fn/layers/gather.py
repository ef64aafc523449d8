"""Gather: y is x at positions along one axis, given by indices.

Derivation. Along axis d, here the first, `gather` has a position for each element of y, and
`index_select` one for each slice of y:

    y_(ij) = x_(k j)    with k = "index"_(ij)    gather
    y_(ij) = x_(k j)    with k = "index"_i    index_select

Each element of y is one of x, and one of x may be read several times. So dx adds g up at the
positions that were read:

    dx_(k j) = sum_(i: "index" = k) g_(ij)

Indices are no numbers, so they have no gradient.

Cache: the indices, the axis, and the shapes of x and y.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, bare, constructor, declare, record, stand_ins
from lincoln_fn.layers.common.inputs import check_indexed, in_range

Indexed: TypeAlias = tuple[Elements, Int[Tensor, "*positions"]]


@record
class Cache:
    index: Int[Tensor, "*positions"]
    x: Elements
    y: Moved
    dim: int = core.static()


def forward(params: tuple[()], x: Indexed, *, dim: int) -> tuple[Moved, Cache]:
    """Compute y_ij = x_kj with k = index_ij."""
    check_indexed("gather", x, "(x, index)", dim)
    x_0, index = x[0], x[1].long()
    dim %= x_0.ndim
    pairs = enumerate(zip(index.shape, x_0.shape, strict=False))
    if index.ndim != x_0.ndim or any(n > m for axis, (n, m) in pairs if axis != dim):
        wanted = f"an index no larger than x but along axis {dim}"
        raise core.unexpected("gather", wanted, f"{tuple(x_0.shape)} and {tuple(index.shape)}")
    y = in_range("gather", index, x_0.shape[dim], lambda: torch.gather(x_0, dim, index))
    like = stand_ins(x_0, y)
    return y, Cache(index, like.x, like.y, dim)


declare(forward, kind="moving", along="dim")


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[tuple[Elements, None], tuple[()]]:
    """Compute dx_kj = sum of g_ij over all i with index_ij = k."""
    return (torch.zeros_like(cache.x).scatter_add(cache.dim, cache.index, g), None), ()


@constructor
def gather(dim: int) -> Layer:
    """Read x at one position for each element of y, as `torch.gather`.

    x is (x, index), of as many axes; the index counts along axis dim, and is not negative. y has
    the shape of the index, and dx is (dx, None). So the log-probability of each example's class is
    read by `gather(1)` of (log_p, target.unsqueeze(1)).

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([[1], [0]])
        >>> gather(1).predict((), x)
        tensor([[2.],
                [3.]])
    """
    return bare(Layer, forward, backward)


def forward_slices(params: tuple[()], x: Indexed, *, dim: int) -> tuple[Moved, Cache]:
    """Compute y_ij = x_kj with k = index_i."""
    check_indexed("index_select", x, "(x, index)", dim)
    x_0, index = x[0], x[1].long()
    dim %= x_0.ndim
    size, flat = x_0.shape[dim], index.reshape(-1)
    read = in_range("index_select", flat, size, lambda: torch.index_select(x_0, dim, flat))
    y = read.reshape(*x_0.shape[:dim], *index.shape, *x_0.shape[dim + 1 :])
    like = stand_ins(x_0, y)
    return y, Cache(index, like.x, like.y, dim)


declare(forward_slices, kind="moving", along="dim")


def backward_slices(
    params: tuple[()], cache: Cache, g: Moved
) -> tuple[tuple[Elements, None], tuple[()]]:
    """Compute dx_kj = sum of g_ij over all i with index_i = k."""
    x, dim, index = cache.x, cache.dim, cache.index.reshape(-1)
    rows = g.reshape(*x.shape[:dim], len(index), *x.shape[dim + 1 :])
    return (torch.zeros_like(x).index_add(dim, index, rows), None), ()


@constructor
def index_select(dim: int = 0) -> Layer:
    """Read whole slices of x, one for each index, as x[index] does for axis 0.

    x is (x, index), without negative indices, and dx is (dx, None). y has the axes of the index in
    the place of axis dim. `embedding` looks up rows of a table of its own.

    Example:
        >>> x = torch.tensor([[1.0, 2.0], [3.0, 4.0]]), torch.tensor([1, 0])
        >>> index_select().predict((), x)
        tensor([[3., 4.],
                [1., 2.]])
    """
    return bare(Layer, forward_slices, backward_slices)
