"""Scatter: y is x with elements of a source at positions along one axis, given by indices.

Derivation. Along axis d, here the first, with k = index_(ij),

    y_(k j) = s_(ij)    at the positions written, x elsewhere
    dx_(k j) = {(0, if k "is written"), (g_(k j), otherwise):}
    ds_(ij) = g_(k j)

or, if the source is added to x,

    y_(k j) = x_(k j) + sum_(i: "index" = k) s_(ij)
    dx = g
    ds_(ij) = g_(k j)

Cache: the indices, the axis, whether the source is added, and the shapes of x and of the source.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, bare, record, stand_in, static
from lincoln_fn.layers.common.inputs import check_indexed, in_range

Inputs: TypeAlias = tuple[Elements, Int[Tensor, "*positions"], Moved]


@record
class Cache:
    index: Int[Tensor, "*positions"]
    x: Elements
    dim: int = static()
    reduce: str | None = static()


def forward(
    params: tuple[()], x: Inputs, *, dim: int, reduce: str | None
) -> tuple[Elements, Cache]:
    """Put s_ij at y_kj with k = index_ij, or add it to x_kj."""
    check_indexed("scatter", x, "(x, index, source)", dim)
    x_0, index, source = x[0], x[1].long(), x[2]
    dim %= x_0.ndim
    pairs = enumerate(zip(index.shape, x_0.shape, strict=False))
    fits = index.ndim == x_0.ndim and all(n <= m for axis, (n, m) in pairs if axis != dim)
    if index.shape != source.shape or not fits:
        wanted = f"index and source of one shape, no larger than x but along axis {dim}"
        raise core.unexpected("scatter", wanted, ", ".join(str(tuple(x_i.shape)) for x_i in x))
    write = x_0.scatter_add if reduce == "add" else x_0.scatter
    y = in_range("scatter", index, x_0.shape[dim], lambda: write(dim, index, source))
    return y, Cache(index, stand_in(x_0), dim, reduce)


def backward(
    params: tuple[()], cache: Cache, g: Elements
) -> tuple[tuple[Elements, None, Moved], tuple[()]]:
    """Compute ds_ij = g_kj; dx = g, with 0 where x was replaced."""
    dim, index = cache.dim, cache.index
    dx = g if cache.reduce == "add" else g.scatter(dim, index, 0.0)
    return (dx, None, torch.gather(g, dim, index)), ()


@core.constructor(kind="addition", along="dim")
def scatter(dim: int, *, reduce: Literal["add"] | None = None) -> Layer:
    """Write a source into x at one position for each of its elements, as `torch.scatter`.

    x is (x, index, source). The index has the source's shape; y has x's. dx is (dx, None, dsource).

    Args:
        dim: the axis that the index counts along; it may be negative, the indices may not.
        reduce: "add" adds the source to x, several elements at one position too; None replaces x's
            elements. Then no position may be written twice: which element stays is not defined.

    Example:
        >>> x, source = torch.zeros(3), torch.tensor([5.0, 7.0, 1.0])
        >>> scatter(0, reduce="add").predict((), (x, torch.tensor([2, 0, 2]), source))
        tensor([7., 0., 6.])
    """
    return bare(Layer, forward, backward)
