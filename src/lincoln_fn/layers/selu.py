"""Scaled exponential linear unit: y = s x for x > 0, else s alpha (e^x - 1), element by element.

Derivation. The constants s and alpha are chosen so that x of mean 0 and variance 1 gives y of mean
0 and variance 1.

    y = s max(x, 0) + s alpha (e^(min(x, 0)) - 1)
    (dy)/(dx) = {(s, if x > 0), (s alpha e^x, otherwise):}
    dx = {(g s, if x > 0), (g s alpha e^x, otherwise):}

At x = 0 the two slopes differ, and the second is used, as in torch. `expm1` computes e^x - 1,
because the plain difference loses digits near x = 0.

Cache: x.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor

ALPHA: Final = 1.6732632423543772848170429916717
SCALE: Final = 1.0507009873554804934193349852946


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = s max(x, 0) + s alpha (e^(min(x, 0)) - 1)."""
    y = SCALE * torch.relu(x) + SCALE * ALPHA * torch.expm1(torch.clamp(x, max=0))
    return y, x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g s where x > 0, else g s alpha e^x."""
    slope = SCALE * ALPHA * torch.exp(torch.clamp(x, max=0))
    return torch.where(x > 0, g * SCALE, g * slope), ()


@constructor(kind="activation")
def selu() -> Layer:
    """Keep mean 0 and variance 1 from layer to layer: y = s x if x > 0, else s alpha (e^x - 1).

    x has any shape, and y has the same. s = 1.0507 and alpha = 1.6733. Source: Klambauer,
    Unterthiner, Mayr and Hochreiter, "Self-Normalizing Neural Networks", 2017, equation 2.

    Example:
        >>> selu().predict((), torch.tensor([-1e4, 0.0, 2.0]))
        tensor([-1.7581,  0.0000,  2.1014])
    """
    return bare(Layer, forward, backward)
