"""Softmin: y_j = exp(-x_j) / sum_n exp(-x_n), along one axis.

Derivation. y = softmax(z) with z = -x. Softmax gives dz_k = y_k (g_k - sum_j g_j y_j), and
dx = -dz:

    dx_k = -y_k (g_k - sum_j g_j y_j).

Cache: y, and the axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_axis, check_cache, check_cotangent, check_input


@record
class Cache:
    """The weights, and the axis along which they sum to 1."""

    y: Float[Tensor, "*s"]
    dim: int = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, dim: int = -1
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y_j = exp(-x_j) / sum_n exp(-x_n).

    Args:
        params: ().
        x: of any shape with at least one axis.
        dim: the axis along which y sums to 1.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor or has no such axis, or params are another
            layer's.

    Example:
        >>> forward((), torch.tensor([1e4, 1e4]))[0]
        tensor([0.5000, 0.5000])
    """
    check_input("softmin", params, x)
    check_axis("softmin", x, dim)
    y = torch.softmax(-x, dim)
    return y, Cache(y, dim)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx_k = -y_k (g_k - sum_j g_j y_j).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([0.5, 0.5]), -1), torch.tensor([1.0, 0.0]))[0]
        tensor([-0.2500,  0.2500])
    """
    check_cache("softmin", cache, Cache)
    check_cotangent("softmin", g, cache.y)
    dz = torch.ops.aten._softmax_backward_data(g, cache.y, cache.dim, g.dtype)
    return -dz, ()
