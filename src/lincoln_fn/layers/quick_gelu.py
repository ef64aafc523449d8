"""Quick GELU: y = x / (1 + e^(-1.702 x)), a sigmoid in place of the normal distribution of GELU.

Derivation. With the sigmoid p = 1 / (1 + e^(-k x)) and k = 1.702, whose derivative is k p (1 - p),

    y = x p
    dy/dx = p + x k p (1 - p)
    dx = g (p + k x p (1 - p))

Cache: x.
"""

from __future__ import annotations

from typing import Final

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor

K: Final = 1.702


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x p."""
    return x * torch.sigmoid(K * x), x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g (p + k x p (1 - p))."""
    p = torch.sigmoid(K * x)
    return g * (p + K * x * p * (1 - p)), ()


@constructor(kind="activation")
def quick_gelu() -> Layer:
    """Multiply x by a sigmoid: y = x / (1 + e^(-1.702 x)), the activation of CLIP.

    `gelu` is what it approximates; `silu` has 1 for 1.702. Source: Hendrycks and Gimpel, "Gaussian
    Error Linear Units", 2016.

    Example:
        >>> quick_gelu().predict((), torch.tensor([-1.0, 0.0, 1.0]))
        tensor([-0.1542,  0.0000,  0.8458])
    """
    return bare(Layer, forward, backward)
