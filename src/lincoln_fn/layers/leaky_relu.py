"""Leaky rectified linear unit: y = x for x > 0, else s x, element by element.

Derivation. With s = negative_slope, the slope is 1 for x > 0 and s for x < 0. At x = 0 there is no
derivative, and s is used, as in torch:

    dx = {(g, if x > 0), (s g, otherwise):}

Cache: x, which shows the side of each element for any sign of s, and s.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor, record, static


@record
class Cache:
    x: Elements
    negative_slope: float = static()


def forward(params: tuple[()], x: Elements, *, negative_slope: float) -> tuple[Elements, Cache]:
    """Compute y = x for x > 0, else s x."""
    return torch.where(x > 0, x, negative_slope * x), Cache(x, negative_slope)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where x > 0, else s g."""
    return torch.where(cache.x > 0, g, cache.negative_slope * g), ()


@constructor(kind="activation")
def leaky_relu(negative_slope: float = 0.01) -> Layer:
    """Keep what is positive, and scale the rest by s = negative_slope: y = x for x > 0, else s x.

    Source: Maas et al., "Rectifier Nonlinearities Improve Neural Network Acoustic Models", 2013.

    Example:
        >>> leaky_relu(0.2).predict((), torch.tensor([-1.0, 2.0]))
        tensor([-0.2000,  2.0000])
    """
    return bare(Layer, forward, backward)
