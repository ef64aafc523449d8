"""Softsign: y = x / (1 + |x|), element by element.

Derivation. For x > 0, and with |x| = -x for x < 0 likewise,

    dy/dx = (1 + |x| - |x|) / (1 + |x|)^2 = 1 / (1 + |x|)^2,
    dx    = g / (1 + |x|)^2.

At x = 0 both sides give 1, so there is no kink. Cache: x.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x / (1 + |x|), which lies in (-1, 1).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 3.0]))[0]
        tensor([-0.5000,  0.7500])
    """
    check_input("softsign", params, x)
    return torch.nn.functional.softsign(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g / (1 + |x|)^2.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([-1.0, 3.0]), torch.ones(2))[0]
        tensor([0.2500, 0.0625])
    """
    check_cotangent("softsign", g, cache)
    root = cache.abs().add_(1)
    return (g / root).div_(root), ()
