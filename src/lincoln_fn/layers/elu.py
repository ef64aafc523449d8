"""Exponential linear unit: y = x for x > 0, else a (e^x - 1), element by element.

Derivation. With a = alpha, dy/dx = 1 for x > 0 and a e^x for x < 0. At x = 0 the two agree only if
a = 1; a is taken, as torch does:

    dx = g where x > 0, else g a e^x.

e^x - 1 loses its digits near x = 0, so `expm1` computes it. The slope a e^x equals y + a, which
loses them for large negative x, so it is computed from x. Cache: x, and a (Clevert, Unterthiner and
Hochreiter, "Fast and Accurate Deep Network Learning by Exponential Linear Units", 2016).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the factor a."""

    x: Float[Tensor, "*s"]
    alpha: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, alpha: float = 1.0
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = x for x > 0, else alpha (exp(x) - 1).

    Args:
        params: ().
        x: of any shape.
        alpha: what y tends to for large negative x, with its sign changed.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1e4, 2.0]), alpha=0.5)[0]
        tensor([-0.5000,  2.0000])
    """
    check_input("elu", params, x)
    return torch.nn.functional.elu(x, alpha), Cache(x, alpha)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where x > 0, else g a exp(x).

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
        tensor([0.5000, 1.0000])
    """
    check_cache("elu", cache, Cache)
    check_cotangent("elu", g, cache.x)
    return torch.ops.aten.elu_backward(g, cache.alpha, 1, 1, False, cache.x), ()
