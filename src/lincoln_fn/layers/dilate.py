"""Dilate: y is x with zeros between the elements of axes, as between those of a dilated kernel.

Derivation. Along an axis, with d - 1 zeros between neighbours,

    y_j = {(x_i, if j = d i), (0, otherwise):}
    dx_i = g_(d i)

so dx is every d-th element of g. The backward of a convolution with stride d dilates g.

Cache: the shapes of x and y, d and the axes.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, Moved, PositiveInt, bare, constructor, record, static
from lincoln_fn.layers.common.inputs import Dims, axes_of


@record
class Cache:
    y: Moved
    axes: tuple[int, ...] = static()
    dilation: int = static()


def forward(params: tuple[()], x: Elements, *, dilation: int, dim: Dims) -> tuple[Moved, Cache]:
    """Compute y_j = x_i where j = d i, else 0."""
    axes, y = axes_of("dilate", x, dim), x
    for axis in axes:
        spaced = torch.stack([y, *[torch.zeros_like(y)] * (dilation - 1)], axis + 1)
        last = max((y.shape[axis] - 1) * dilation + 1, 0)
        y = spaced.flatten(axis, axis + 1).narrow(axis, 0, last)
    return y, Cache(x.new_zeros(()).expand(y.shape), axes, dilation)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx_i = g_(d i)."""
    step, whole = slice(None, None, cache.dilation), slice(None)
    return g[tuple(step if axis in cache.axes else whole for axis in range(g.ndim))], ()


@constructor(kind="moving", along="axes")
def dilate(dilation: PositiveInt, dim: Dims = -1) -> Layer:
    """Put zeros between the elements of axes: an axis of size n has (n - 1) dilation + 1 in y.

    Example:
        >>> dilate(2).predict((), torch.tensor([1.0, 2.0, 3.0]))
        tensor([1., 0., 2., 0., 3.])
    """
    return bare(Layer, forward, backward)
