"""Softplus: y = log(1 + e^(beta x)) / beta, element by element.

Derivation. With s the sigmoid,

    (dy)/(dx) = e^(beta x) / (1 + e^(beta x)) = s(beta x)
    dx = {(g, if beta x > threshold), (g s(beta x), otherwise):}

e^(beta x) overflows for large x, so log(1 + e^(beta x)) is computed as -log s(-beta x), which is
equal. Where beta x > threshold, y = x. Above beta x = 40 this is exact even in float64, where
e^(-40) is below the rounding error of 40. A higher threshold is treated as 40, which is the
default. torch's default is 20, which gives the same in float32, and an error of 2e-9 in float64.

Cache: x, beta and the threshold.
"""

from __future__ import annotations

from typing import Final

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Bound, Elements, Layer, Positive, bare, constructor, record, static

EXACT_PAST: Final = 40.0


@record
class Cache:
    x: Elements
    beta: float = static()
    threshold: float = static()


def forward(
    params: tuple[()], x: Elements, *, beta: float, threshold: float
) -> tuple[Elements, Cache]:
    """Compute y = x where beta x > threshold, else log(1 + e^(beta x)) / beta."""
    threshold = min(threshold, EXACT_PAST)
    y = torch.where(beta * x > threshold, x, -logsigmoid(-beta * x) / beta)
    return y, Cache(x, beta, threshold)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g where beta x > threshold, else g s(beta x)."""
    beta_x = cache.beta * cache.x
    return torch.where(beta_x > cache.threshold, g, g * torch.sigmoid(beta_x)), ()


@constructor(kind="activation")
def softplus(beta: Positive = 1.0, threshold: Bound = EXACT_PAST) -> Layer:
    """Bend smoothly from 0 to x: y = log(1 + e^(beta x)) / beta.

    Args:
        beta: how sharply y bends at 0.
        threshold: of beta x, above which y = x; exact from 40, the default, on. torch's is 20.

    Example:
        >>> softplus().predict((), torch.tensor([-1.0, 0.0, 1e4]))
        tensor([3.1326e-01, 6.9315e-01, 1.0000e+04])
    """
    return bare(Layer, forward, backward)
