"""Mish: y = x tanh(log(1 + e^x)), element by element.

Derivation. With u = log(1 + e^x), t = tanh u and s the sigmoid, (du)/(dx) = e^x / (1 + e^x) = s
and (dt)/(du) = 1 - t^2:

    (dy)/(dx) = t + x s (1 - t^2)
    dx = g (t + x s (1 - t^2))

e^x overflows for large x, so u is computed as -log s(-x), which is equal.

Cache: x.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x tanh(u)."""
    u = -logsigmoid(-x)
    return x * torch.tanh(u), x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g (t + x s (1 - t^2))."""
    t, s = torch.tanh(-logsigmoid(-x)), torch.sigmoid(x)
    return g * (t + x * s * (1 - t**2)), ()


@constructor(kind="activation")
def mish() -> Layer:
    """Multiply x by the tanh of its softplus: y = x tanh(log(1 + e^x)).

    Source: Misra, "Mish: A Self Regularized Non-Monotonic Activation Function", 2020.

    Example:
        >>> mish().predict((), torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.3034,  0.0000,  0.8651])
    """
    return bare(Layer, forward, backward)
