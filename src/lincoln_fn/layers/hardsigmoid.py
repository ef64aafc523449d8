"""Hard sigmoid: y = min(max(x + 3, 0), 6) / 6, element by element.

Derivation. For -3 < x < 3, y = x / 6 + 1 / 2 and dy/dx = 1 / 6; outside, y is constant and
dy/dx = 0. At both ends there is no derivative, and 0 is taken, as torch does:

    dx = g / 6 where -3 < x < 3, else 0.

Cache: x. y would not do: it rounds to 1 just below x = 3.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = min(max(x + 3, 0), 6) / 6.

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-4.0, 0.0, 4.0]))[0]
        tensor([0.0000, 0.5000, 1.0000])
    """
    check_input("hardsigmoid", params, x)
    return torch.nn.functional.hardsigmoid(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g / 6 where -3 < x < 3, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([-3.0, 0.0, 3.0]), torch.full((3,), 6.0))[0]
        tensor([0., 1., 0.])
    """
    check_cotangent("hardsigmoid", g, cache)
    # Not aten.hardsigmoid_backward, whose 1 / 6 is float32's in float64 too.
    return torch.ops.aten.hardtanh_backward(g, cache, -3, 3).mul_(1 / 6), ()
