"""Log-softmax: y_j = x_j - log sum_n e^(x_n), along one axis.

Derivation. With p = softmax(x) = e^y, and delta_(jk) = 1 where j = k, else 0,

    (dy_j)/(dx_k) = delta_(jk) - e^(x_k) / sum_n e^(x_n) = delta_(jk) - p_k
    dx_k = sum_j g_j (delta_(jk) - p_k) = g_k - e^(y_k) sum_j g_j

The Jacobian itself, M by M for each row of M numbers, is never computed.

The forward pass subtracts the row's largest element first. That changes neither y nor the
derivative, and keeps every exponential at most 1.

Cache: y, and the axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, bare, check_axis, constructor, record, static


@record
class Cache:
    y: Elements
    dim: int = static()


def forward(params: tuple[()], x: Elements, *, dim: int) -> tuple[Elements, Cache]:
    """Compute y_j = x_j - log sum_n e^(x_n)."""
    check_axis("log_softmax", x, dim, scalar=True)
    y = torch.log_softmax(x, dim)
    return y, Cache(y, dim)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx_k = g_k - e^(y_k) sum_j g_j."""
    y, dim = cache.y, cache.dim
    return g - torch.exp(y) * torch.sum(g, dim, keepdim=True), ()


def minus_one_hot(y: Elements, index: Int[Tensor, "*ones"], dim: int) -> Elements:
    """Compute e^y, less 1 at the index of each example: the gradient of a cross-entropy."""
    # expm1 adds no error where e^y is near 1; that of y, which is rounded, stays.
    p, of_index = torch.exp(y), torch.expm1(y.gather(dim, index))
    if core.is_transformed(y, index):
        return p.scatter(dim, index, of_index)
    return p.scatter_(dim, index, of_index)  # of a language model, p is one of the largest tensors


@constructor(kind="log_softmax", along="dim")
def log_softmax(dim: int = -1) -> Layer:
    """Turn scores into log-probabilities along axis dim: y_j = x_j - log sum_n e^(x_n).

    x has any shape, and y has the same. A tensor without axes counts as having one, of size 1.

    Example:
        >>> log_softmax().predict((), torch.tensor([[1e4, 1e4], [0.0, 1.0]]))
        tensor([[-0.6931, -0.6931],
                [-1.3133, -0.3133]])
    """
    return bare(Layer, forward, backward)
