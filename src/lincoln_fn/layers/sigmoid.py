"""Sigmoid: y = 1 / (1 + exp(-x)), element by element.

Derivation. With y = (1 + e^-x)^-1,

    dy/dx = e^-x (1 + e^-x)^-2 = y (1 - y),    since e^-x y = 1 - y,
    dx    = g y (1 - y).

Cache: y.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = 1 / (1 + exp(-x)), which lies in (0, 1).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.zeros(2))[0]
        tensor([0.5000, 0.5000])
    """
    check_input("sigmoid", params, x)
    y = torch.sigmoid(x)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g y (1 - y).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.5, 0.2]), torch.ones(2))[0]
        tensor([0.2500, 0.1600])
    """
    check_cotangent("sigmoid", g, cache)
    return torch.ops.aten.sigmoid_backward(g, cache), ()
