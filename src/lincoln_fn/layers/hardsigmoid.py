"""Hard sigmoid: y = min(max(x + 3, 0), 6) / 6, element by element.

Derivation. For -3 < x < 3, y = x / 6 + 1 / 2 and the slope is 1 / 6. Outside, y is constant and the
slope is 0. At x = -3 and x = 3 there is no derivative, and 0 is used, as in torch:

    dx = {(g / 6, if -3 < x < 3), (0, otherwise):}

Cache: x. y is not enough: it rounds to 1 just below x = 3.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import Elements, Layer, bare, constructor


def forward(params: tuple[()], x: Elements) -> tuple[Elements, Elements]:
    """Compute y = min(max(x + 3, 0), 6) / 6."""
    return torch.clamp(x + 3, 0, 6) / 6, x


def backward(params: tuple[()], x: Elements, g: Elements) -> tuple[Elements, tuple[()]]:
    """Compute dx = g / 6 where -3 < x < 3, else 0."""
    return torch.where((x > -3) & (x < 3), g / 6, 0), ()


@constructor(kind="activation")
def hardsigmoid() -> Layer:
    """Squash every number into [0, 1] by a straight line: y = min(max(x + 3, 0), 6) / 6.

    Example:
        >>> hardsigmoid().predict((), torch.tensor([-4.0, 0.0, 1.5]))
        tensor([0.0000, 0.5000, 0.7500])
    """
    return bare(Layer, forward, backward)
