"""Hard swish: y = x min(max(x + 3, 0), 6) / 6, element by element.

Derivation. y = 0 and dy/dx = 0 for x < -3, y = x and dy/dx = 1 for x > 3, and between them
y = (x^2 + 3 x) / 6 and

    dy/dx = x / 3 + 1 / 2.

At x = -3 and x = 3 there is no derivative; 0 and 1 are taken, as torch does. dx is g times it.

Cache: x (Howard et al., "Searching for MobileNetV3", 2019, section 5.2).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x min(max(x + 3, 0), 6) / 6.

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-4.0, 0.0, 1.0, 4.0]))[0]
        tensor([-0.0000, 0.0000, 0.6667, 4.0000])
    """
    check_input("hardswish", params, x)
    return torch.nn.functional.hardswish(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g (x / 3 + 1 / 2) where -3 < x < 3, 0 below and g above.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([-3.0, 0.0, 3.0]), torch.ones(3))[0]
        tensor([0.0000, 0.5000, 1.0000])
    """
    check_cotangent("hardswish", g, cache)
    return torch.ops.aten.hardswish_backward(g, cache), ()
