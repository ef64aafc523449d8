"""Mish: y = x tanh(log(1 + e^x)), element by element.

Derivation. With u = log(1 + e^x), t = tanh u and s the sigmoid, u' = e^x / (1 + e^x) = s(x) and
dt/du = 1 - t^2, so

    dy/dx = t + x s (1 - t^2),
    dx    = g (t + x s (1 - t^2)).

For large x, e^x overflows to infinity, which makes t = 1 and the second term 0. For large -x,
u = log1p(e^x) keeps its digits. Cache: x (Misra, "Mish: A Self Regularized Non-Monotonic Activation
Function", 2020).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.shapes import check_cotangent, check_input


def forward(
    params: tuple[()], x: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute y = x tanh(log(1 + exp(x))).

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
    check_input("mish", params, x)
    return torch.nn.functional.mish(x), x


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g (t + x s (1 - t^2)).

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
        tensor([0.6000, 1.0000])
    """
    check_cotangent("mish", g, cache)
    return torch.ops.aten.mish_backward(g, cache), ()
