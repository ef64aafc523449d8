"""Adaptive max pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, with n windows, window o goes from floor(o L / n) up to,
but not including, ceil((o + 1) L / n), as in adaptive average pooling. With m(o) the position of
the largest element in window o, the first of several equal ones,

    y_o = x_(m(o))
    dx_i = sum_(o: m(o) = i) g_o    as in max pooling

With `return_indices` the output is (y, m), and g is (dy, None).

Cache: m(o), flat within x's spatial axes; and the shape of x.
"""

from __future__ import annotations

from functools import partial

from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Layer, bare, check_cache, check_cotangent, record, static
from lincoln_fn.layers.common.pool_positions import adaptive_positions, added_up, flat_positions
from lincoln_fn.layers.common.pooling import (
    OutputSize,
    adapted_sizes,
    check_spatial,
    dy_of,
    output_sizes,
)
from lincoln_fn.layers.common.shapes import Image
from lincoln_fn.layers.common.stand_in import stand_in
from lincoln_fn.layers.max_pool import largest


@record
class Cache:
    """The input's shape, the position of each window's largest element, and x's axes."""

    x: Image
    indices: Int[Tensor, "*batch_and_pooled"]
    n: int = static()
    return_indices: bool = static(default=False)


def forward(
    params: tuple[()], x: Image, *, output_size: tuple[int | None, ...], return_indices: bool
) -> tuple[Arrays, Cache]:
    """Compute y_o = x_(m(o)), the largest x_i in window o."""
    n = len(output_size)
    check_spatial(f"adaptive_max_pool{n}d", params, x, n)
    positions = flat_positions(adaptive_positions(adapted_sizes(output_size, x), x), x)
    y, m = largest(x, positions, n)
    return (y, m) if return_indices else y, Cache(stand_in(x), m, n, return_indices)


def backward(params: tuple[()], cache: Cache, g: Arrays) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o over all windows o with m(o) = i."""
    check_cache("adaptive_max_pool", cache, Cache)
    x, m, n = cache.x, cache.indices, cache.n
    dy = dy_of(f"adaptive_max_pool{n}d", g, cache.return_indices)
    check_cotangent(f"adaptive_max_pool{n}d", dy, x, tuple(m.shape))
    return added_up(dy.unsqueeze(-1), m.unsqueeze(-1), x, n), ()


def _adaptive_max_pool_nd(
    n: int, output_size: OutputSize, *, return_indices: bool = False,
) -> Layer:  # fmt: skip
    """Make an adaptive max pooling of x of shape (channels, *spatial), or a batch of these.

    y is the largest element of each window, and output_size gives the number of windows.

    Args:
        output_size: the size of y, one number for all axes or one for each; None keeps that of x.
        return_indices: whether the output is (y, indices), as in `max_pool2d`.

    Raises:
        ValueError: if a number is below 1, or there are too many or too few.

    Example:
        >>> lf.adaptive_max_pool2d((4, None))
        adaptive_max_pool2d((4, None))
        >>> lf.adaptive_max_pool1d(2).predict((), torch.tensor([[1.0, 5.0, 3.0, 4.0]]))
        tensor([[5., 4.]])
    """
    sizes = output_sizes(f"adaptive_max_pool{n}d", output_size, n)
    return bare(Layer, partial(forward, output_size=sizes), backward)


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = core.over_axes(
    _adaptive_max_pool_nd, kind="max_pool"
)
