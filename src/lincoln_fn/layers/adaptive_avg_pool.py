"""Adaptive average pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, with n windows, window o goes from floor(o L / n) up to,
but not including, ceil((o + 1) L / n). Neighbouring windows share an element where n does not
divide L. With W_o the positions in window o and n_o their number,

    y_o = (1 / n_o) sum_(i in W_o) x_i
    dx_i = sum_(o: i in W_o) g_o / n_o    as in average pooling

Cache: the shape of x, and the output's size.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn import core
from lincoln_fn.core import Image, Layer, Pooled, Sizes, bare, over_axes, record, stand_in, static
from lincoln_fn.layers.common import pooling
from lincoln_fn.layers.common.pooling import OutputSize


@record
class Cache:
    x: Image
    output_size: Sizes = static()


def forward(
    params: tuple[()], x: Image, *, output_size: tuple[int | None, ...]
) -> tuple[Pooled, Cache]:
    """Compute y_o = (1 / n_o) sum of the x_i in window o."""
    n = len(output_size)
    pooling.check_spatial("adaptive_avg_pool", x, n)
    positions = pooling.adaptive_positions(output_size, x)
    y = pooling.sums_of(x, positions, n) / pooling.sizes_in(x, positions, n)
    return y.to(x.dtype), Cache(stand_in(x), tuple(y.shape[-n:]))


def backward(params: tuple[()], cache: Cache, g: Pooled) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o / n_o over all windows o that i is in."""
    x, n = cache.x, len(cache.output_size)
    core.check_cotangent(f"adaptive_avg_pool{n}d", g, x, (*x.shape[:-n], *cache.output_size))
    positions = pooling.adaptive_positions(cache.output_size, x)
    return pooling.spread(g / pooling.sizes_in(x, positions, n), positions, x, n), ()


def _adaptive_avg_pool_nd(
    n: int, output_size: OutputSize,
) -> Layer:  # fmt: skip
    """Make an adaptive average pooling of x of shape (channels, *spatial), or a batch of these.

    Args:
        output_size: the size of y, one number for all axes or one for each; None keeps that of x.

    Example:
        >>> lf.adaptive_avg_pool1d(2).predict((), torch.tensor([[1.0, 5.0, 3.0]]))
        tensor([[3., 4.]])
    """
    sizes = pooling.output_sizes(f"adaptive_avg_pool{n}d", output_size, n)
    return bare(Layer, partial(forward, output_size=sizes), backward)


adaptive_avg_pool1d, adaptive_avg_pool2d, adaptive_avg_pool3d = over_axes(
    _adaptive_avg_pool_nd, kind="average"
)
