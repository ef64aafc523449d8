"""Sum of several inputs of one shape: y = x_1 + ... + x_n.

Derivation. dy/dx_i = 1 for every i, so each dx_i = g. Cache: the shape and n.
"""

from __future__ import annotations

from functools import reduce

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._merge import check_inputs, check_one_shape, check_shape
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache


@record
class Cache:
    """The shape of y, and the number of inputs."""

    shape: tuple[int, ...] = static()
    count: int = static()


def forward(
    params: tuple[()], x: tuple[Float[Tensor, ...], ...]
) -> tuple[Float[Tensor, ...], Cache]:
    """Compute y = x_1 + ... + x_n.

    Args:
        params: ().
        x: tensors of one shape.

    Returns:
        y and the cache.

    Raises:
        LayerError: if the inputs do not fit together, or params are another layer's.

    Example:
        >>> forward((), (torch.ones(2), torch.ones(2)))[0]
        tensor([2., 2.])
    """
    check_inputs("add", params, x)
    check_one_shape("add", x)
    return reduce(torch.add, x), Cache(tuple(x[0].shape), len(x))


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, ...]
) -> tuple[tuple[Float[Tensor, ...], ...], tuple[()]]:
    """Compute dx_i = g.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, a tuple as x is, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache((1,), 2), torch.ones(1))[0]
        (tensor([1.]), tensor([1.]))
    """
    check_cache("add", cache, Cache)
    check_shape("add", g, cache.shape)
    return (g,) * cache.count, ()
