"""Softmin: y_j = e^(-x_j) / sum_n e^(-x_n), along one axis.

Derivation. y = softmax(z) with z = -x, so that dx = -dz. With softmax's dz,

    dz_k = y_k (g_k - sum_j g_j y_j)
    dx_k = -y_k (g_k - sum_j g_j y_j)

Cache: y, and the axis.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, check_axis, constructor
from lincoln_fn.layers.softmax import Cache


def forward(params: tuple[()], x: Elements, *, dim: int) -> tuple[Elements, Cache]:
    """Compute y_j = e^(-x_j) / sum_n e^(-x_n)."""
    check_axis("softmin", x, dim, scalar=True)
    y = torch.softmax(-x, dim)
    return y, Cache(y, dim)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx_k = -y_k (g_k - sum_j g_j y_j)."""
    y, dim = cache.y, cache.dim
    return -y * (g - torch.sum(g * y, dim, keepdim=True)), ()


@constructor(kind="softmax", along="dim")
def softmin(dim: int = -1) -> Layer:
    """Give the smallest scores along an axis the largest weights: y_j = e^(-x_j) / sum_n e^(-x_n).

    y sums to 1 along the axis dim. A tensor without axes counts as having one, of size 1.

    Example:
        >>> softmin().predict((), torch.tensor([[1e4, 1e4], [0.0, 1.0]]))
        tensor([[0.5000, 0.5000],
                [0.7311, 0.2689]])
    """
    return bare(Layer, forward, backward)
