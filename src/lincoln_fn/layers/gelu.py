"""Gaussian error linear unit: y = x p(x), with p the normal distribution function or close to it.

Derivation. By the product rule, with p' = (dp)/(dx),

    (dy)/(dx) = p + x p'
    dx = g (p + x p')

With `approximate="none"`, and Z a standard normal variable,

    p = P(Z < x) = 1/2 erfc(-x / sqrt(2))
    p' = e^(-x^2 / 2) / sqrt(2 pi)

With `approximate="tanh"` and c = 0.044715,

    u = sqrt(2 / pi) (x + c x^3)
    p = (1 + tanh u) / 2 = sigmoid(2 u)
    p' = 2 u' p (1 - p)    where 2 u' = sqrt(8 / pi) (1 + 3 c x^2)

torch computes (1 + erf(x / sqrt(2))) / 2 and (1 + tanh u) / 2, which lose all digits below x = -5.
erfc and the sigmoid keep them.

Cache: x, and which p it is. p is computed again, because it takes as much memory as x.
"""

from __future__ import annotations

import math
from typing import Final, Literal

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor, record, static

SQRT_8_BY_PI: Final = math.sqrt(8 / math.pi)
CUBIC: Final = 0.044715


@record
class Cache:
    x: Elements
    approximate: Literal["none", "tanh"] = static()


def forward(
    params: tuple[()], x: Elements, *, approximate: Literal["none", "tanh"]
) -> tuple[Elements, Cache]:
    """Compute y = x p."""
    return x * _p(x, approximate), Cache(x, approximate)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g (p + x p')."""
    x, p = cache.x, _p(cache.x, cache.approximate)
    if cache.approximate == "tanh":
        # Multiplied before x^2, which may be infinite where this is 0.
        xpq = x * p * (1 - p)
        x_dp = SQRT_8_BY_PI * (xpq + 3 * CUBIC * xpq * x * x)
    else:
        x_dp = x * torch.exp(-x * x / 2) / math.sqrt(2 * math.pi)
    return g * (p + x_dp), ()


def _p(x: Elements, approximate: str) -> Elements:
    if approximate == "tanh":
        return torch.sigmoid(SQRT_8_BY_PI * x * (1 + CUBIC * x * x))
    return torch.erfc(-x / math.sqrt(2)) / 2


@constructor(kind="activation")
def gelu(approximate: Literal["none", "tanh"] = "none") -> Layer:
    """Multiply x by the probability that a standard normal variable Z is below it: y = x P(Z < x).

    Source: Hendrycks and Gimpel, "Gaussian Error Linear Units", 2016.

    Args:
        approximate: "none" for the probability itself, "tanh" for its approximation
            (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2.

    Example:
        >>> gelu().predict((), torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.1587,  0.0000,  0.8413])
    """
    return bare(Layer, forward, backward)
