"""Permute: the axes of x in another order.

Derivation. Axis k of y is axis d_k of x, so y has x's elements at other positions:

    y_(i_(d_0), i_(d_1), ...) = x_(i_0, i_1, ...)
    dx_(i_0, i_1, ...) = g_(i_(d_0), i_(d_1), ...)    the inverse permutation

Cache: the shape of y, and the order d.
"""

from __future__ import annotations

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, bare, record, require, stand_in, static


@record
class Cache:
    y: Moved
    dims: tuple[int, ...] = static()


def forward(params: tuple[()], x: Elements, *, dims: tuple[int, ...]) -> tuple[Moved, Cache]:
    """Make axis dims[k] of x the axis k of y, for every k."""
    if sorted(dim + x.ndim if dim < 0 else dim for dim in dims) != list(range(x.ndim)):
        expected = f"x whose axes are {dims}, each once"
        raise core.unexpected("permute", expected, f"shape {tuple(x.shape)}")
    y = x.permute(dims)
    return y, Cache(stand_in(y), dims)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx, whose axis dims[k] is g's axis k."""
    return g.permute(sorted(range(g.ndim), key=lambda k: cache.dims[k] % g.ndim)), ()


@core.constructor(kind="moving")
def permute(*dims: int) -> Layer:
    """Put the axes, including the batch, in another order; y is a view of x.

    Args:
        *dims: for each axis of y, the axis of x, counted from the end if it is negative.

    Example:
        >>> permute(0, 2, 1).predict((), torch.zeros(5, 2, 3)).shape
        torch.Size([5, 3, 2])
    """
    axes = range(len(dims))
    each_once = sorted(dim + len(dims) if dim < 0 else dim for dim in dims) == list(axes)
    require(each_once, "permute", f"dims of {len(dims)} axes, each once", dims)
    return bare(Layer, forward, backward)
