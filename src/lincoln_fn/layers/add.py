"""Sum of several inputs of one shape: y = x_1 + ... + x_n.

Derivation. For every i,

    (dy)/(dx_i) = 1
    dx_i = g

Cache: the shape and n.
"""

from __future__ import annotations

from functools import reduce

import torch

from lincoln_fn.core import Elements, Layer, Like, Several, bare, constructor, record, static
from lincoln_fn.layers.common.inputs import check_inputs, check_one_shape


@record
class Cache:
    y: Like = static()
    count: int = static()


def forward(params: tuple[()], x: Several) -> tuple[Elements, Cache]:
    """Compute y = x_1 + ... + x_n."""
    check_inputs("add", x)
    check_one_shape("add", x)
    return reduce(torch.add, x), Cache(Like.of(x[0]), len(x))


def backward(params: tuple[()], cache: Cache, g: Elements) -> tuple[Several, tuple[()]]:
    """Compute dx_i = g."""
    return (g,) * cache.count, ()


@constructor(kind="addition")
def add() -> Layer:
    """Add up a tuple of tensors of one shape: y = x_1 + ... + x_n.

    Example:
        >>> add().predict((), (torch.ones(2), torch.ones(2)))
        tensor([2., 2.])
    """
    return bare(Layer, forward, backward)
