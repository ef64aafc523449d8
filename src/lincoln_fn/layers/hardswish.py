"""Hard swish: y = x min(max(x + 3, 0), 6) / 6, element by element.

Derivation. y = 0 for x < -3, y = x for x > 3, and y = (x^2 + 3 x) / 6 between them:

    (dy)/(dx) = {(0, if x <= -3), (1, if x >= 3), (x / 3 + 1 / 2, otherwise):}
    dx = {(0, if x <= -3), (g, if x >= 3), (g (x / 3 + 1 / 2), otherwise):}

At x = -3 and x = 3 there is no derivative; the outer slopes, 0 and 1, are used, as in torch.

Cache: x.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = x min(max(x + 3, 0), 6) / 6."""
    # Divided first, because 6 x may overflow in float16.
    return x * (torch.clamp(x + 3, 0, 6) / 6), x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = 0 where x <= -3, g where x >= 3, else g (x / 3 + 1 / 2)."""
    return torch.where(x <= -3, 0, torch.where(x >= 3, g, g * (x / 3 + 1 / 2))), ()


@constructor(kind="activation")
def hardswish() -> Layer:
    """Multiply x by a piecewise linear sigmoid: y = x min(max(x + 3, 0), 6) / 6.

    Source: Howard et al., "Searching for MobileNetV3", 2019, section 5.2.

    Example:
        >>> hardswish().predict((), torch.tensor([-1.0, 0.0, 1.0, 4.0]))
        tensor([-0.3333,  0.0000,  0.6667,  4.0000])
    """
    return bare(Layer, forward, backward)
