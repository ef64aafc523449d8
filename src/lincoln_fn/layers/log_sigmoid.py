"""Log-sigmoid: y = log(1 / (1 + e^(-x))), element by element.

Derivation. With p = 1 / (1 + e^(-x)), y = log p and (dp)/(dx) = p (1 - p),

    (dy)/(dx) = p (1 - p) / p = 1 - p
    dx = g (1 - p) = -g (e^y - 1)

`expm1` computes e^y - 1, because the plain difference loses digits where p is near 1. e^(-x)
overflows for large -x, so y is computed as

    y = min(x, 0) - log(1 + e^(-|x|))

where the exponential is at most 1.

Cache: y.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = min(x, 0) - log(1 + e^(-|x|))."""
    y = logsigmoid(x)
    return y, y


def backward(params: tuple[()], y: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = -g (e^y - 1)."""
    return -g * torch.expm1(y), ()


@constructor(kind="activation")
def log_sigmoid() -> Layer:
    """Compute the log-probability of class 1 from its log-odds: y = log(1 / (1 + e^(-x))).

    Example:
        >>> log_sigmoid().predict((), torch.tensor([-1e4, 0.0]))
        tensor([-1.0000e+04, -6.9315e-01])
    """
    return bare(Layer, forward, backward)
