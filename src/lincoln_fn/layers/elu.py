"""Exponential linear unit: y = x for x > 0, else alpha (e^x - 1), element by element.

Derivation. By cases of x,

    y = max(x, 0) + alpha (e^(min(x, 0)) - 1)
    (dy)/(dx) = {(1, if x > 0), (alpha e^x, otherwise):}
    dx = {(g, if x > 0), (g alpha e^x, otherwise):}

At x = 0 the two slopes differ unless alpha = 1; alpha is used, as in torch. `expm1` computes
e^x - 1, because the plain difference loses digits near x = 0. The slope for x < 0, y + alpha, is
computed from x, because this sum loses digits for large negative x.

Cache: x, and alpha.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor, record, static


@record
class Cache:
    x: Elements
    alpha: float = static()


def forward(params: tuple[()], x: Elements, *, alpha: float) -> tuple[Elements, Cache]:
    """Compute y = max(x, 0) + alpha (e^(min(x, 0)) - 1)."""
    y = torch.relu(x) + alpha * torch.expm1(torch.clamp(x, max=0))
    return y, Cache(x, alpha)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where x > 0, else g alpha e^x."""
    slope = cache.alpha * torch.exp(torch.clamp(cache.x, max=0))
    return torch.where(cache.x > 0, g, g * slope), ()


@constructor(kind="activation")
def elu(alpha: float = 1.0) -> Layer:
    """Keep what is positive, and bend the rest: y = x for x > 0, else alpha (e^x - 1).

    Source: Clevert, Unterthiner and Hochreiter, "Fast and Accurate Deep Network Learning by
    Exponential Linear Units", 2016.

    Example:
        >>> elu(0.5).predict((), torch.tensor([-1e4, -1.0, 2.0]))
        tensor([-0.5000, -0.3161,  2.0000])
    """
    return bare(Layer, forward, backward)
