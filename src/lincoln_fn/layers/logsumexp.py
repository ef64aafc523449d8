"""Logarithm of a sum of exponentials along axes: y = ln sum_i e^(x_i).

Derivation. With p_i = e^(x_i) / S, the softmax of x, and S = sum_i e^(x_i),

    (dy)/(dx_i) = e^(x_i) / S = p_i
    dx_i = g p_i

The largest x_i is subtracted before the exponentials, and added to y again: no exponential is above
1. p is not computed as e^(x_i - y), because y is rounded: near 10^4, a float32 has an error of
5 * 10^(-4), and so would p.

Cache: p, a stand-in for y, and the axes.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, Reduced, bare, constructor, record, static, unexpected
from lincoln_fn.layers.common.inputs import Dims, axes_of, with_axes


@record
class Cache:
    p: Elements
    y: Reduced
    axes: tuple[int, ...] = static()
    keepdim: bool = static()


def forward(params: tuple[()], x: Elements, *, dim: Dims, keepdim: bool) -> tuple[Reduced, Cache]:
    """Compute y = ln sum_i e^(x_i)."""
    axes = axes_of("logsumexp", x, dim)
    if x.numel() == 0:
        raise unexpected("logsumexp", "at least one element", x.shape)
    largest = x.amax(axes, keepdim=True)
    largest = torch.where(largest.isinf(), 0, largest)
    e = torch.exp(x - largest)
    total = e.sum(axes, keepdim=True)
    y = largest + torch.log(total)
    y = y if keepdim else y.squeeze(axes)
    return y, Cache(e / total, x.new_zeros(()).expand(y.shape), axes, keepdim)


def backward(params: tuple[()], cache: Cache, g: Reduced) -> tuple[Elements, tuple[()]]:
    """Compute dx_i = g p_i."""
    return (g if cache.keepdim else with_axes(g, cache.axes)) * cache.p, ()


@constructor(kind="other", along="axes")
def logsumexp(dim: Dims = None, *, keepdim: bool = False) -> Layer:
    """Add up numbers that are given by their logarithms: y = ln sum_i e^(x_i).

    x has any shape; y has that of x without the axes dim, None for all. The batch is axis 0.

    Example:
        >>> logsumexp(-1).predict((), torch.tensor([[100.0, 100.0], [0.0, 1.0]]))
        tensor([100.6931,   1.3133])
    """
    return bare(Layer, forward, backward)
