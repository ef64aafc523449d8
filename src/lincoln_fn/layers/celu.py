"""Continuously differentiable exponential linear unit: y = max(x, 0) + min(a (e^(x/a) - 1), 0).

Derivation. With a = alpha > 0, y = x and dy/dx = 1 for x > 0, and for x < 0

    dy/dx = a e^(x/a) / a = e^(x/a).

At x = 0 both are 1, so there is no kink: dx = g where x > 0, else g e^(x/a). `expm1` computes
e^(x/a) - 1, which loses its digits near x = 0 otherwise. Cache: x, and a (Barron, "Continuously
Differentiable Exponential Linear Units", 2017).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the scale a."""

    x: Float[Tensor, "*s"]
    alpha: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, alpha: float = 1.0
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = max(x, 0) + min(alpha (exp(x / alpha) - 1), 0).

    Args:
        params: ().
        x: of any shape.
        alpha: what y tends to for large negative x, with its sign changed; above 0.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1e4, 2.0]), alpha=0.5)[0]
        tensor([-0.5000,  2.0000])
    """
    check_input("celu", params, x)
    return torch.celu(x, alpha), Cache(x, alpha)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where x > 0, else g exp(x / a).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([0.0, 2.0]), 0.5), torch.ones(2))[0]
        tensor([1., 1.])
    """
    check_cache("celu", cache, Cache)
    check_cotangent("celu", g, cache.x)
    return torch.ops.aten.elu_backward(g, cache.alpha, 1, 1 / cache.alpha, False, cache.x), ()
