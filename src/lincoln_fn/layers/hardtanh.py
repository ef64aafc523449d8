"""Hard tanh: y = min(max(x, low), high), element by element.

Derivation. With low = min_val and high = max_val, y = x and dy/dx = 1 between them; outside, y is
constant and dy/dx = 0. At both ends there is no derivative, and 0 is taken, as torch does:

    dx = g where low < x < high, else 0.

Cache: x and the ends. y would not do: rounded to bfloat16, an end may lie between the two.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the ends of the range of y."""

    x: Float[Tensor, "*s"]
    min_val: float = static()
    max_val: float = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, min_val: float = -1.0, max_val: float = 1.0
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute y = min(max(x, min_val), max_val).

    Args:
        params: ().
        x: of any shape.
        min_val: the smallest value of y.
        max_val: the largest value of y.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([-2.0, 0.5, 2.0]))[0]
        tensor([-1.0000,  0.5000,  1.0000])
    """
    check_input("hardtanh", params, x)
    y = torch.nn.functional.hardtanh(x, min_val, max_val)
    return y, Cache(x, min_val, max_val)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*s"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dx = g where low < x < high, else 0.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([-1.0, 0.5, 2.0]), -1, 1), torch.ones(3))[0]
        tensor([0., 1., 0.])
    """
    check_cache("hardtanh", cache, Cache)
    check_cotangent("hardtanh", g, cache.x)
    return torch.ops.aten.hardtanh_backward(g, cache.x, cache.min_val, cache.max_val), ()
