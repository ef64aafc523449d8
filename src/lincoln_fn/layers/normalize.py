"""Normalize: y is x at length 1, along one axis.

Derivation. With the length r = sqrt(sum_k x_k^2) of the numbers along the axis,

    y_j = x_j / r
    (dr)/(dx_k) = x_k / r = y_k
    (dy_j)/(dx_k) = delta_(jk) / r - x_j y_k / r^2 = (delta_(jk) - y_j y_k) / r
    dx_k = (g_k - y_k sum_j g_j y_j) / r

What points along y only changes the length, so it has no part in dx. A length of eps or less counts
as eps, a constant: then y = x / eps, and dx = g / eps. Half precision has its length, and divides
by it, in float32: float16 ends at 65504.

Cache: y, the length, of at least eps, whether r is above eps, and the axis.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from lincoln_fn.core import Elements, Layer, Positive, bare, check_axis, constructor, record, static
from lincoln_fn.layers.common.normalisation import norm_over, widened


@record
class Cache:
    y: Elements
    length: Float[Tensor, "*rows"]
    is_long: Bool[Tensor, "*rows"]
    dim: int = static()


def forward(params: tuple[()], x: Elements, *, dim: int, eps: float) -> tuple[Elements, Cache]:
    """Compute y = x / r."""
    check_axis("normalize", x, dim)
    eps = max(eps, torch.finfo(x.dtype).tiny)  # a short dtype would round eps to 0
    r = norm_over(x, 2.0, (dim,))
    length = r.clamp(min=eps)
    y = (x / length).to(x.dtype)
    return y, Cache(y, length, r > eps, dim)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = (g - y sum(g y)) / r."""
    y = cache.y
    wide = widened(g)
    along = torch.where(cache.is_long, (wide * y).sum(cache.dim, keepdim=True), 0)
    return ((wide - y * along) / cache.length).to(g.dtype), ()


@constructor(kind="norm", along="dim")
def normalize(dim: int = -1, eps: Positive = 1e-12) -> Layer:
    """Divide by the Euclidean length along an axis, as `torch.nn.functional.normalize`.

    Args:
        dim: the axis along which y has length 1: products of such rows are cosines.
        eps: a shorter length counts as this one.

    Example:
        >>> normalize().predict((), torch.tensor([[3.0, 4.0], [0.0, 0.0]]))
        tensor([[0.6000, 0.8000],
                [0.0000, 0.0000]])
    """
    return bare(Layer, forward, backward)
