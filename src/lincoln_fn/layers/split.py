"""An input split along an axis: x = [y_1, ..., y_n].

Derivation. Each element of x is one element of one output, so dx is joined as x was split:

    dx = [g_1, ..., g_n]

Cache: the axis, and the outputs' shapes.
"""

from __future__ import annotations

from typing import Annotated

import torch

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, Elements, Layer, Like, NonNegativeInt, PositiveInt, Several


@core.record
class Cache:
    y: tuple[Like, ...] = core.static()
    dim: int = core.static()


def forward(
    params: tuple[()], x: Elements, *, split_size: int | tuple[int, ...], dim: int
) -> tuple[Several, Cache]:
    """Compute y_1, ..., y_n, the parts of x along the axis."""
    core.check_axis("split", x, dim)
    if isinstance(split_size, tuple) and sum(split_size) != x.shape[dim]:
        raise core.unexpected("split", f"sizes that add up to {x.shape[dim]}", split_size)
    y = torch.split(x, split_size if isinstance(split_size, int) else [*split_size], dim)
    return y, Cache(tuple(map(Like.of, y)), dim % x.ndim)


def backward(params: tuple[()], cache: Cache, g: Several) -> tuple[Elements, tuple[()]]:
    """Compute dx = [g_1, ..., g_n]."""
    if type(g) is not tuple or len(g) != len(cache.y):
        expected = f"g to be a tuple of {len(cache.y)} tensors"
        raise core.unexpected("split", expected, core.describe_non_tuple(g))
    for g_i, y_i in zip(g, cache.y, strict=True):
        core.check_cotangent("split", g_i, y_i)
    return torch.cat(g, cache.dim), ()


@core.constructor(kind="moving", along="dim")
def split(
    split_size: PositiveInt | Annotated[tuple[NonNegativeInt, ...], NOT_EMPTY], dim: int = 0
) -> Layer:
    """Split x along an axis, as `torch.split`: y is a tuple of its parts, which are views of x.

    Args:
        split_size: the size of each part, of which the last may be smaller; or the sizes of all.
        dim: the axis, counted from the end if it is negative; the batch is axis 0.

    Example:
        >>> split((1, 2)).predict((), torch.tensor([1.0, 2.0, 3.0]))
        (tensor([1.]), tensor([2., 3.]))
    """
    return core.bare(Layer, forward, backward)
