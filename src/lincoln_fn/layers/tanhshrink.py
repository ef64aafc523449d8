"""Tanh shrinkage: y = x - tanh(x), element by element.

Derivation. With t = tanh x and dt/dx = 1 - t^2,

    dy/dx = 1 - (1 - t^2) = t^2,    dx = g t^2.

Near x = 0 the difference keeps no digit of y = x^3 / 3 - ..., so for |x| < 1 it is taken inside
Lambert's continued fraction, of which no term cancels:

    tanh x = x / (1 + q),    q = x^2 / (3 + x^2 / (5 + x^2 / (7 + ...))),
    y = x - x / (1 + q) = x q / (1 + q).

Cut off after the 17, q is right to float64's rounding. Cache: t.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x - tanh(x).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([0.0, 0.01, 1e4]))[0]
        tensor([0.0000e+00, 3.3332e-07, 9.9990e+03])
    """
    check_input("tanhshrink", params, x)
    t = torch.tanh(x)
    square = x * x
    q = square / 17
    for odd in (15, 13, 11, 9, 7, 5, 3):
        q = square / (q + odd)
    return torch.where(x.abs() < 1, x * q / (q + 1), x - t), t


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g t^2.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 0.5]), torch.ones(2))[0]
        tensor([0.0000, 0.2500])
    """
    check_cotangent("tanhshrink", g, cache)
    return g * cache * cache, ()
