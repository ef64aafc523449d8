"""Leaky rectified linear unit: y = max(x, 0) + s min(x, 0), element by element.

Derivation. With s = negative_slope, y = x and dy/dx = 1 for x > 0, and y = s x and dy/dx = s for
x < 0. At x = 0 there is no derivative, and s is taken, as torch does:

    dx = g where x > 0, else s g.

Cache: x, which tells the sides apart whatever the sign of s, and s (Maas, Hannun and Ng, "Rectifier
Nonlinearities Improve Neural Network Acoustic Models", 2013).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the slope on its negative side."""

    x: Float[Tensor, "*s"]
    negative_slope: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, negative_slope: float = 0.01
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = max(x, 0) + negative_slope min(x, 0).

    Args:
        params: ().
        x: of any shape.
        negative_slope: the slope s for x < 0.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-1.0, 2.0]))[0]
        tensor([-0.0100,  2.0000])
    """
    check_input("leaky_relu", params, x)
    y = torch.nn.functional.leaky_relu(x, negative_slope)
    return y, Cache(x, negative_slope)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where x > 0, else s g.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([-1.0, 2.0]), 0.5), torch.ones(2))[0]
        tensor([0.5000, 1.0000])
    """
    check_cache("leaky_relu", cache, Cache)
    check_cotangent("leaky_relu", g, cache.x)
    return torch.ops.aten.leaky_relu_backward(g, cache.x, cache.negative_slope, False), ()
