"""Sigmoid linear unit, also called swish: y = x s(x), s being the sigmoid, element by element.

Derivation. With s' = s (1 - s),

    dy/dx = s + x s (1 - s) = s (1 + x (1 - s)),
    dx    = g s (1 + x (1 - s)).

e^-x overflows to infinity for large -x, which makes s = 0 and both results 0. Cache: x (Elfwing,
Uchibe and Doya, "Sigmoid-Weighted Linear Units for Neural Network Function Approximation in
Reinforcement Learning", 2018).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x / (1 + exp(-x)).

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1e4, 0.0, 1e4]))[0]
        tensor([   -0.,     0., 10000.])
    """
    check_input("silu", params, x)
    return torch.nn.functional.silu(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g s (1 + x (1 - s)).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.0, 1e4]), torch.ones(2))[0]
        tensor([0.5000, 1.0000])
    """
    check_cotangent("silu", g, cache)
    return torch.ops.aten.silu_backward(g, cache), ()
