"""Threshold: y = x where x > threshold, else value, element by element.

Derivation. dy/dx = 1 for x > threshold and 0 for x < threshold. At x = threshold, where y jumps, 0
is taken, as torch does:

    dx = g where x > threshold, else 0.

Cache: x, since y = value may lie on either side, and the threshold.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the largest value of it that is replaced."""

    x: Float[Tensor, "*s"]
    threshold: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, threshold: float, value: float
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = x where x > threshold, else value.

    Args:
        params: ().
        x: of any shape.
        threshold: the largest x that is replaced.
        value: what it is replaced by.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 2.0]), threshold=0.5, value=7.0)[0]
        tensor([7., 2.])
    """
    check_input("threshold", params, x)
    y = torch.nn.functional.threshold(x, threshold, value)
    return y, Cache(x, threshold)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where x > threshold, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([-1.0, 2.0]), 0.5), torch.ones(2))[0]
        tensor([0., 1.])
    """
    check_cache("threshold", cache, Cache)
    check_cotangent("threshold", g, cache.x)
    return torch.ops.aten.threshold_backward(g, cache.x, cache.threshold), ()
