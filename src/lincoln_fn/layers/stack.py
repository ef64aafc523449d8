"""Inputs of one shape stacked along a new axis: y_(i ...) = x_i.

Derivation. Each element of y is one element of one input, so

    dx_i = g_(i ...)    the entry of g along the new axis

Cache: the axis, and the shape of y.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Like, Moved, bare, check_axis, record, static
from lincoln_fn.layers.common.inputs import check_inputs, check_one_shape


@record
class Cache:
    y: Like = static()
    dim: int = static()


def forward(params: tuple[()], x: tuple[Elements, ...], *, dim: int) -> tuple[Moved, Cache]:
    """Compute y_(i ...) = x_i."""
    check_inputs("stack", x)
    check_one_shape("stack", x)
    check_axis("stack", x[0].unsqueeze(0), dim)
    y = torch.stack(x, dim)
    return y, Cache(Like.of(y), dim % y.ndim)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[tuple[Elements, ...], tuple[()]]:
    """Compute dx_i = g_(i ...)."""
    return torch.unbind(g, cache.dim), ()


@core.constructor(kind="moving", along="dim")
def stack(dim: int = 0) -> Layer:
    """Stack inputs of one shape along a new axis.

    x is a tuple of tensors; y has one axis more. `concatenate` joins along an axis that they have.

    Args:
        dim: the position of the new axis in y, counted from the end if it is negative.

    Example:
        >>> stack(1).predict((), (torch.tensor([1.0, 2.0]), torch.tensor([3.0, 4.0])))
        tensor([[1., 3.],
                [2., 4.]])
    """
    return bare(Layer, forward, backward)
