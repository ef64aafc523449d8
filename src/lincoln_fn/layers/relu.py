"""Rectified linear unit: y = max(x, 0), element by element.

Derivation. For x > 0, y = x and dy/dx = 1; for x < 0, y = 0 and dy/dx = 0. At x = 0 there
is no derivative, and 0 is taken, as torch does. y is positive just where x is, so y tells the two
apart and x need not be kept:

    dx = g where y > 0, else 0.

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
    """Compute y = max(x, 0).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 2.0]))[0]
        tensor([0., 2.])
    """
    check_input("relu", params, x)
    y = torch.relu(x)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where y > 0, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 2.0]), torch.ones(2))[0]
        tensor([0., 1.])
    """
    check_cotangent("relu", g, cache)
    return torch.ops.aten.threshold_backward(g, cache, 0), ()
