"""Soft cap: y = c tanh(x / c), which is near x for small x and stays within -c and c.

Derivation. With tanh' = 1 - tanh^2 and y / c = tanh(x / c),

    (dy)/(dx) = c (1 - tanh^2(x / c)) 1/c = 1 - (y / c)^2
    dx = g (1 - (y / c)^2)

Cache: y, and c.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, Positive, bare, constructor, record, static


@record
class Cache:
    y: Elements
    cap: float = static()


def forward(params: tuple[()], x: Elements, *, cap: float) -> tuple[Elements, Cache]:
    """Compute y = c tanh(x / c)."""
    y = cap * torch.tanh(x / cap)
    return y, Cache(y, cap)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g (1 - (y / c)^2)."""
    return g * (1 - (cache.y / cache.cap) ** 2), ()


@constructor(kind="activation")
def softcap(cap: Positive) -> Layer:
    """Keep numbers within -cap and cap, smoothly: y = cap tanh(x / cap).

    Source: Gemma Team, "Gemma 2: Improving Open Language Models at a Practical Size", 2024, section
    2, where it bounds the logits.

    Example:
        >>> softcap(2.0).predict((), torch.tensor([-100.0, 0.1, 2.0]))
        tensor([-2.0000,  0.0999,  1.5232])
    """
    return bare(Layer, forward, backward)
