"""Product of several inputs of one shape: y = x_1 x_2 ... x_n, element by element.

Derivation. The derivative by one input is the product of the others, so

    dx_i = g prod_(j != i) x_j    not g y / x_i, because x_i may be 0

Cache: the inputs.
"""

from __future__ import annotations

from functools import reduce

import torch

from lincoln_fn.core import Elements, Layer, Several, bare, check_cotangent, constructor, record
from lincoln_fn.layers.common.inputs import check_inputs, check_one_shape


@record
class Cache:
    x: Several


def forward(params: tuple[()], x: Several) -> tuple[Elements, Cache]:
    """Compute y = x_1 x_2 ... x_n."""
    check_inputs("multiply", x)
    check_one_shape("multiply", x)
    return reduce(torch.mul, x), Cache(x)


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Several, tuple[()]]:
    """Compute dx_i = g prod_{j != i} x_j."""
    x = cache.x
    check_cotangent("multiply", g, x[0])
    return tuple(reduce(torch.mul, x[:i] + x[i + 1 :], g) for i in range(len(x))), ()


@constructor(kind="product")
def multiply() -> Layer:
    """Multiply the inputs, element by element: y = x_1 x_2 ... x_n.

    x is a tuple of tensors of one shape, which y has too.

    Example:
        >>> multiply().predict((), (torch.tensor([2.0]), torch.tensor([3.0])))
        tensor([6.])
    """
    return bare(Layer, forward, backward)
