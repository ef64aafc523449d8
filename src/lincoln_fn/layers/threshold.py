"""Threshold: y = value where x <= threshold, else x, element by element.

Derivation. The slope is 1 for x > threshold and 0 for x < threshold. At x = threshold, where y
jumps, 0 is used, as in torch:

    dx = {(g, if x > threshold), (0, otherwise):}

Cache: x, since y = value may lie on either side, and the threshold.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Bound, Elements, Layer, bare, constructor, record, static


@record
class Cache:
    x: Elements
    threshold: float = static()


def forward(
    params: tuple[()], x: Elements, *, threshold: float, value: float
) -> tuple[Elements, Cache]:
    """Compute y = value where x <= threshold, else x."""
    return torch.where(x <= threshold, value, x), Cache(x, threshold)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where x > threshold, else 0."""
    return torch.where(cache.x > cache.threshold, g, 0), ()


@constructor(kind="activation")
def threshold(threshold: Bound, value: Bound) -> Layer:
    """Replace numbers up to a threshold: y = value where x <= threshold, else x.

    Example:
        >>> threshold(0.5, 7.0).predict((), torch.tensor([-1.0, 2.0]))
        tensor([7., 2.])
    """
    return bare(Layer, forward, backward)
