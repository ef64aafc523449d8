"""Gaussian error linear unit: y = x p(x), p being the normal distribution function or near it.

Derivation. dy/dx = p + x p', so dx = g (p + x p'). With approximate="none",

    p = P(Z < x) = erfc(-x / sqrt 2) / 2,           p' = e^(-x^2 / 2) / sqrt(2 pi),

and with approximate="tanh", with u = sqrt(2 / pi) (x + 0.044715 x^3),

    p = (1 + tanh u) / 2 = sigmoid(2 u),            p' = 2 u' p (1 - p),
    2 u' = sqrt(8 / pi) (1 + 3 * 0.044715 x^2).

1 + erf(x / sqrt 2) and 1 + tanh u, as torch has them, keep no digit below x = -5; erfc and the
sigmoid keep all. Cache: x, and which p it is: p is made again, for it is as large as x (Hendrycks
and Gimpel, "Gaussian Error Linear Units", 2016).
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input

SQRT_8_BY_PI: Final = math.sqrt(8 / math.pi)
CUBIC: Final = 0.044715


@record
class Cache:
    """The input, and which p is its factor."""

    x: Float[Tensor, "*s"]
    approximate: Literal["none", "tanh"] = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, approximate: Literal["none", "tanh"] = "none"
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = x p(x).

    Args:
        params: ().
        x: of any shape.
        approximate: "none" for the normal distribution function, "tanh" for its approximation.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 1.0, 1e4]))[0]
        tensor([-1.5866e-01,  8.4134e-01,  1.0000e+04])
    """
    check_input("gelu", params, x)
    return x * _factor(x, approximate), Cache(x, approximate)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g (p + x p').

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> cache = forward((), torch.tensor([0.0, 100.0]))[1]
        >>> backward((), cache, torch.ones(2))[0]
        tensor([0.5000, 1.0000])
    """
    check_cache("gelu", cache, Cache)
    check_cotangent("gelu", g, cache.x)
    x, p = cache.x, _factor(cache.x, cache.approximate)
    if cache.approximate == "tanh":
        # x p (1 - p) comes first: where it is 0, x^2 may have overflowed.
        slope = torch.ops.aten.sigmoid_backward(x, p)
        slope = slope.addcmul(slope * x, x, value=3 * CUBIC).mul_(SQRT_8_BY_PI)
    else:
        slope = (x * x).mul_(-0.5).exp_().mul_(x).mul_(1 / math.sqrt(2 * math.pi))
    slope.add_(p)
    del p  # so that dx takes its memory
    return g * slope, ()


def _factor(x: Tensor, approximate: str) -> Tensor:
    """Compute p."""
    if approximate == "tanh":
        return (x * x).mul_(CUBIC).add_(1).mul_(x * SQRT_8_BY_PI).sigmoid_()
    return (x * -math.sqrt(0.5)).erfc_().mul_(0.5)
