"""Sigmoid linear unit, also called swish: y = x s(x), s being the sigmoid, element by element.

Derivation. With s = 1 / (1 + e^(-x)) and s' = s (1 - s),

    (dy)/(dx) = s + x s (1 - s) = s (1 + x (1 - s))
    dx = g s (1 + x (1 - s))

Cache: x.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x s."""
    return x * torch.sigmoid(x), x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g s (1 + x (1 - s))."""
    s = torch.sigmoid(x)
    return g * s * (1 + x * (1 - s)), ()


@constructor(kind="activation")
def silu() -> Layer:
    """Multiply x by its sigmoid: y = x / (1 + e^(-x)), also called swish.

    x has any shape, and y has the same. Source: Elfwing, Uchibe and Doya, "Sigmoid-Weighted Linear
    Units for Neural Network Function Approximation in Reinforcement Learning", 2018.

    Example:
        >>> silu().predict((), torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.2689,  0.0000,  0.7311])
    """
    return bare(Layer, forward, backward)
