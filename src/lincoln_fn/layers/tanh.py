"""Hyperbolic tangent: y = (e^x - e^-x) / (e^x + e^-x), element by element.

Derivation. With s = sinh x, c = cosh x, y = s / c and s' = c, c' = s,

    dy/dx = (c c - s s) / c^2 = 1 - y^2,
    dx    = g (1 - y^2).

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
    """Compute y = tanh(x), which lies in (-1, 1).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([0.0, 100.0]))[0]
        tensor([0., 1.])
    """
    check_input("tanh", params, x)
    y = torch.tanh(x)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g (1 - y^2).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 0.5]), torch.ones(2))[0]
        tensor([1.0000, 0.7500])
    """
    check_cotangent("tanh", g, cache)
    return torch.ops.aten.tanh_backward(g, cache), ()
