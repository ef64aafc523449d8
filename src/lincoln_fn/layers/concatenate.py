"""Inputs put one behind the other along an axis: y = [x_1, ..., x_n].

Derivation. Each element of y is one element of one x_i, so dx_i is the part of g in x_i's place.
Cache: the axis and its sizes, and the shape of y.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._merge import check_inputs, check_shape
from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_axis, check_cache


@record
class Cache:
    """The shape of y, the inputs' sizes along the axis, and the axis."""

    shape: tuple[int, ...] = static()
    sizes: tuple[int, ...] = static()
    dim: int = static()


def forward(
    params: tuple[()], x: tuple[Float[Tensor, ...], ...], *, dim: int = -1
) -> tuple[Float[Tensor, ...], Cache]:
    """Compute y = [x_1, ..., x_n].

    Args:
        params: ().
        x: tensors whose shapes differ along the axis alone.
        dim: the axis.

    Returns:
        y and the cache.

    Raises:
        LayerError: if the inputs do not fit together, or params are another layer's.

    Example:
        >>> forward((), (torch.zeros(1), torch.ones(2)))[0]
        tensor([0., 1., 1.])
    """
    check_inputs("concatenate", params, x)
    check_axis("concatenate", x[0], dim)
    sizes = tuple(x_i.shape[dim] if x_i.ndim == x[0].ndim else -1 for x_i in x)
    rests = {(*x_i.shape[:dim], *x_i.shape[dim:][1:]) for x_i in x}
    if -1 in sizes or len(rests) > 1:
        shapes = ", ".join(str(tuple(x_i.shape)) for x_i in x)
        raise LayerError("concatenate", f"expected shapes alike but for axis {dim}, got {shapes}")
    y = torch.cat(x, dim)
    return y, Cache(tuple(y.shape), sizes, dim)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, ...]
) -> tuple[tuple[Float[Tensor, ...], ...], tuple[()]]:
    """Give each input the part of g in its place.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx, a tuple as x is, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache((3,), (1, 2), -1), torch.tensor([5.0, 6.0, 7.0]))[0]
        (tensor([5.]), tensor([6., 7.]))
    """
    check_cache("concatenate", cache, Cache)
    check_shape("concatenate", g, cache.shape)
    return torch.split_with_sizes(g, cache.sizes, cache.dim), ()
