"""Average pooling over one, two or three spatial axes: y_o is the mean of the x_i in window o.

Derivation. With W_o the positions in window o and n_o the divisor,

    y_o = (1 / n_o) sum_(i in W_o) x_i
    (dy_o)/(dx_i) = {(1 / n_o, if i in W_o), (0, otherwise):}
    dx_i = sum_(o: i in W_o) g_o / n_o

Each window spreads its g_o evenly, and where windows overlap their shares add up. n_o is the number
of W_o's elements in x and in the padding of zeros; without `count_include_pad`, in x alone.
Elements beyond the padding, in `ceil_mode`, never count. `divisor_override` replaces every n_o.

Cache: the shape of x, the window, and how to divide.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Image, Layer, NonNegativeSizes, Pooled, PositiveSizes, Range, Sizes
from lincoln_fn.layers.common import pooling
from lincoln_fn.layers.common.pooling import Window

Divisor: TypeAlias = Annotated[int, Range("other than 0", lambda number: number != 0)]


@core.record
class Cache:
    x: Image
    window: Window = core.static()
    count_include_pad: bool = core.static()
    divisor_override: int | None = core.static()


def forward(
    params: tuple[()], x: Image, *, kernel_size: Sizes, stride: int | Sizes | None,
    padding: int | Sizes, ceil_mode: bool, count_include_pad: bool, divisor_override: int | None,
) -> tuple[Pooled, Cache]:  # fmt: skip
    """Compute y_o = (1 / n_o) sum of the x_i in window o."""
    n = len(kernel_size)
    window = pooling.window_of("avg_pool", n, kernel_size, stride, padding, ceil_mode=ceil_mode)
    pooling.check_windows("avg_pool", x, window)
    cache = Cache(core.stand_in(x), window, count_include_pad, divisor_override)
    y = pooling.sums_of(x, pooling.window_positions(window, x), n) / _divisor(cache)
    return y.to(x.dtype), cache


def backward(params: tuple[()], cache: Cache, g: Pooled) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o / n_o over all windows o that i is in."""
    x, window = cache.x, cache.window
    core.check_cotangent(f"avg_pool{window.n}d", g, x, pooling.pooled_shape(tuple(x.shape), window))
    return pooling.spread(g / _divisor(cache), pooling.window_positions(window, x), x, window.n), ()


def _divisor(cache: Cache) -> int | Int[Tensor, "*pooled"]:
    """Count n_o axis by axis: a window's elements in x form a box."""
    if cache.divisor_override is not None:
        return cache.divisor_override
    spatial = cache.x.shape[-cache.window.n :]
    by_axis = pooling.axis_positions(cache.window, cache.x)
    n = torch.ones((), dtype=torch.int64, device=cache.x.device)
    for at, size, p in zip(by_axis, spatial, cache.window.padding, strict=True):
        border = p if cache.count_include_pad else 0
        n = n.unsqueeze(-1) * ((at >= -border) & (at < size + border)).sum(-1)
    return n


def _avg_pool_nd(
    n: int, kernel_size: PositiveSizes, stride: PositiveSizes | None = None,
    padding: NonNegativeSizes = 0, *, ceil_mode: bool = False, count_include_pad: bool = True,
    divisor_override: Divisor | None = None,
) -> Layer:  # fmt: skip
    """Make an average pooling of x of shape (channels, *spatial), or a batch of these.

    Args:
        kernel_size: of the window; like stride, one number for all axes or one for each.
        padding: zeros on both sides, at most half of kernel_size.
        count_include_pad: whether the zeros count in the mean.
        divisor_override: what a window's sum is divided by; None for its number of elements.

    Example:
        >>> lf.avg_pool1d(2).predict((), torch.tensor([[1.0, 5.0, 2.0, 3.0]]))
        tensor([[3.0000, 2.5000]])
    """
    window = pooling.window_of("avg_pool", n, kernel_size, stride, padding)
    return core.bare(Layer, partial(forward, kernel_size=window.kernel_size), backward)


avg_pool1d, avg_pool2d, avg_pool3d = core.over_axes(_avg_pool_nd, kind="average")
