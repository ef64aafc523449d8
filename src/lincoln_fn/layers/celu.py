"""Continuously differentiable exponential linear unit, element by element.

With alpha > 0, y = x for x > 0, else alpha (e^(x / alpha) - 1).

Derivation. By cases of x,

    y = max(x, 0) + alpha (e^(min(x, 0) / alpha) - 1)
    (dy)/(dx) = {(1, if x > 0), (e^(x / alpha), otherwise):} = e^(min(x, 0) / alpha)
    dx = g e^(min(x, 0) / alpha)

At x = 0 both slopes are 1, so there is no kink. `expm1` computes e^(x / alpha) - 1, because the
plain difference loses digits near x = 0.

Cache: x, and alpha.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, Positive, bare, constructor, record, static


@record
class Cache:
    x: Elements
    alpha: float = static()


def forward(params: tuple[()], x: Elements, *, alpha: float) -> tuple[Elements, Cache]:
    """Compute y = max(x, 0) + alpha (e^(min(x, 0) / alpha) - 1)."""
    y = torch.relu(x) + alpha * torch.expm1(torch.clamp(x, max=0) / alpha)
    return y, Cache(x, alpha)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g e^(min(x, 0) / alpha)."""
    return g * torch.exp(torch.clamp(cache.x, max=0) / cache.alpha), ()


@constructor(kind="activation")
def celu(alpha: Positive = 1.0) -> Layer:
    """Bend what is below 0, without a kink: y = x for x > 0, else alpha (e^(x / alpha) - 1).

    Source: Barron, "Continuously Differentiable Exponential Linear Units", 2017.

    Example:
        >>> celu(0.5).predict((), torch.tensor([-1e4, -1.0, 2.0]))
        tensor([-0.5000, -0.4323,  2.0000])
    """
    return bare(Layer, forward, backward)
