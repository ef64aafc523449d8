"""Softmax: y_j = e^(x_j) / sum_n e^(x_n), along one axis.

Derivation. With S = sum_n e^(x_n), and delta_(jk) = 1 where j = k, else 0,

    (dy_j)/(dx_k) = delta_(jk) e^(x_j) / S - e^(x_j) e^(x_k) / S^2 = y_j (delta_(jk) - y_k)
    dx_k = sum_j g_j y_j (delta_(jk) - y_k) = y_k (g_k - sum_j g_j y_j)

The Jacobian itself, M by M for each row of M numbers, is never computed. The forward pass subtracts
the row's largest element first. That changes neither y nor the derivative, and keeps every
exponential at most 1.

Cache: y, and the axis.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, check_axis, constructor, record, static


@record
class Cache:
    y: Elements
    dim: int = static()


def forward(params: tuple[()], x: Elements, *, dim: int) -> tuple[Elements, Cache]:
    """Compute y_j = e^(x_j) / sum_n e^(x_n)."""
    check_axis("softmax", x, dim, scalar=True)
    y = torch.softmax(x, dim)
    return y, Cache(y, dim)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx_k = y_k (g_k - sum_j g_j y_j)."""
    y, dim = cache.y, cache.dim
    return y * (g - torch.sum(g * y, dim, keepdim=True)), ()


@constructor(kind="softmax", along="dim")
def softmax(dim: int = -1) -> Layer:
    """Turn scores into probabilities along an axis: y_j = e^(x_j) / sum_n e^(x_n).

    y sums to 1 along the axis dim. A tensor without axes counts as having one, of size 1.

    Example:
        >>> softmax().predict((), torch.tensor([[1e4, 1e4], [0.0, 1.0]]))
        tensor([[0.5000, 0.5000],
                [0.2689, 0.7311]])
    """
    return bare(Layer, forward, backward)
