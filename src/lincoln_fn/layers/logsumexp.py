"""Logarithm of a sum of exponentials along axes: y = ln sum_i e^(x_i).

Derivation. With S = sum_i e^(x_i) = e^y,

    (dy)/(dx_i) = e^(x_i) / S = e^(x_i - y)
    dx_i = g e^(x_i - y)

so dx is g times the softmax of x. The largest x_i is subtracted before the exponentials, and added
to y again: no exponential is above 1. Where y = -inf, because all x_i are, dx is 0.

Cache: x, y and the axes.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.declaration import declare
from lincoln_fn.core.layer import Layer
from lincoln_fn.core.record import record, static
from lincoln_fn.errors.signatures import shape_checked
from lincoln_fn.layers.common.reduction import Dims, axes_of, with_axes


@record
class Cache:
    """The input and the output, the axes, and whether y has them."""

    x: Float[Tensor, "*s"]
    y: Float[Tensor, "*reduced"]
    axes: tuple[int, ...] = static()
    keepdim: bool = static()


@shape_checked
def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, dim: Dims, keepdim: bool
) -> tuple[Float[Tensor, "*reduced"], Cache]:
    """Compute y = ln sum_i e^(x_i)."""
    axes = axes_of("logsumexp", x, dim)
    y = torch.logsumexp(x, axes, keepdim)
    return y, Cache(x, y, axes, keepdim)


declare(forward, kind="other")


@shape_checked
def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*reduced"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx_i = g e^(x_i - y)."""
    y = cache.y
    if not cache.keepdim:
        g, y = with_axes(g, cache.axes), with_axes(y, cache.axes)
    return g * torch.exp(cache.x - torch.where(y == -torch.inf, 0, y)), ()


@constructor
def logsumexp(dim: Dims = None, *, keepdim: bool = False) -> Layer:
    """Add up numbers that are given by their logarithms: y = ln sum_i e^(x_i).

    x has any shape; y has that of x without the axes. The batch is axis 0.

    Args:
        dim: the axis or the axes, counted from the end if negative; None for all.
        keepdim: whether y keeps the axes, with size 1.

    Returns:
        The layer, without parameters.

    Raises:
        LayerError: from its functions, if x is not a floating tensor with these axes.

    Example:
        >>> logsumexp(-1).predict((), torch.tensor([[100.0, 100.0], [0.0, 1.0]]))
        tensor([100.6931,   1.3133])
    """
    return bare(Layer, forward, backward)
