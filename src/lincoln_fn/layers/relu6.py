"""Rectified linear unit with a ceiling: y = min(max(x, 0), 6), element by element.

Derivation. For 0 < x < 6, y = x and dy/dx = 1; outside, y is constant and dy/dx = 0. At both ends
there is no derivative, and 0 is taken, as torch does. y lies between 0 and 6 just where x does, so
y tells them apart and x need not be kept:

    dx = g where 0 < y < 6, else 0.

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
    """Compute y = min(max(x, 0), 6).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 2.0, 7.0]))[0]
        tensor([0., 2., 6.])
    """
    check_input("relu6", params, x)
    y = torch.clamp(x, 0, 6)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where 0 < y < 6, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 2.0, 6.0]), torch.ones(3))[0]
        tensor([0., 1., 0.])
    """
    check_cotangent("relu6", g, cache)
    return torch.ops.aten.hardtanh_backward(g, cache, 0, 6), ()
