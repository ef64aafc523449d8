"""Inputs joined along an axis: y = [x_1, ..., x_n].

Derivation. Each element of y is one element of one input. With g split as y was joined,

    g = [g_1, ..., g_n]
    dx_i = g_i

Cache: the axis and its sizes, and the shape of y.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Like, Several, bare, record, static, unexpected
from lincoln_fn.layers.common.inputs import check_inputs


@record
class Cache:
    y: Like = static()
    sizes: tuple[int, ...] = static()
    dim: int = static()


def forward(params: tuple[()], x: Several, *, dim: int) -> tuple[Elements, Cache]:
    """Compute y = [x_1, ..., x_n]."""
    check_inputs("concatenate", x)
    core.check_axis("concatenate", x[0], dim)
    sizes = tuple(x_i.shape[dim] if x_i.ndim == x[0].ndim else -1 for x_i in x)
    rests = {(*x_i.shape[:dim], *x_i.shape[dim:][1:]) for x_i in x}
    if -1 in sizes or len(rests) > 1:
        shapes = ", ".join(str(tuple(x_i.shape)) for x_i in x)
        raise unexpected("concatenate", f"shapes alike but for axis {dim}", shapes)
    y = torch.cat(x, dim)
    return y, Cache(Like.of(y), sizes, dim)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Several, tuple[()]]:
    """Compute dx_i = g_i, the part of g at the position of x_i."""
    return torch.split_with_sizes(g, cache.sizes, cache.dim), ()


@core.constructor(kind="moving", along="dim")
def concatenate(dim: int = -1) -> Layer:
    """Join the inputs along axis dim: y = [x_1, ..., x_n].

    x is a tuple of tensors, whose shapes may differ only along this axis.

    Example:
        >>> concatenate().predict((), (torch.zeros(1), torch.ones(2)))
        tensor([0., 1., 1.])
    """
    return bare(Layer, forward, backward)
