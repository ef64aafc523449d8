"""Log-sigmoid: y = log(1 / (1 + exp(-x))), element by element.

Derivation. With p = sigmoid(x), y = log p and dp/dx = p (1 - p),

    dy/dx = p (1 - p) / p = 1 - p,
    dx    = g (1 - p) = -g (e^y - 1).

Neither is computed as it stands. e^-x overflows for large -x, so

    y = min(x, 0) - log(1 + e^-|x|),

where the exponential is at most 1; and e^y - 1 loses its digits where p is near 1, so `expm1`
computes it.

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
    """Compute y = min(x, 0) - log(1 + exp(-|x|)), which is at most 0.

    Args:
        params: ().
        x: of any shape.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([0.0, -1e4]))[0]
        tensor([-6.9315e-01, -1.0000e+04])
    """
    check_input("log_sigmoid", params, x)
    y = torch.nn.functional.logsigmoid(x)
    return y, y


def backward(
    params: tuple[()], cache: Float[Tensor, "*s"], g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = -g (exp(y) - 1).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), torch.tensor([0.25, 0.5]).log(), torch.ones(2))[0]
        tensor([0.7500, 0.5000])
    """
    check_cotangent("log_sigmoid", g, cache)
    return torch.expm1(cache).mul_(g).neg_(), ()
