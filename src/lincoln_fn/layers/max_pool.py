"""Max pooling over one, two or three spatial axes: y_o is the largest x_i in window o.

Derivation. Let m(o) be the position of the largest element in window o: the first in row-major
order if several are equal. A nan counts as larger than every number. Then

    y_o = x_(m(o))

A small change of x does not change m(o), so

    (dy_o)/(dx_i) = {(1, if m(o) = i), (0, otherwise):}
    dx_i = sum_(o: m(o) = i) g_o

Overlapping windows may share their largest element, and then their g_o add up. Padding counts as
-inf, and is never chosen over an element of x. A window with only padding gives -inf and has
m(o) = N, one past the last of x's N positions; its g_o goes to no element. With `return_indices`
the output is (y, m). Integers have no gradient, so that g is (dy, None).

Cache: m(o), flat within x's spatial axes; and the shape of x.
"""

from __future__ import annotations

from functools import partial
from math import inf, prod

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Image, Layer, NonNegativeSizes, PositiveSizes, Sizes, static
from lincoln_fn.layers.common import pooling
from lincoln_fn.layers.common.pooling import Window


@core.record
class Cache:
    """The input's shape, the position of each window's largest element, and the spatial axes."""

    x: Image
    indices: Int[Tensor, "*batch_and_pooled"]
    n: int = static()
    return_indices: bool = static()
    window: Window | None = static(default=None)  # None where windows differ in their size or step


def forward(
    params: tuple[()], x: Image, *, kernel_size: Sizes, stride: int | Sizes | None,
    padding: int | Sizes, dilation: int | Sizes, ceil_mode: bool, return_indices: bool,
) -> tuple[Arrays, Cache]:  # fmt: skip
    """Compute y_o = x_(m(o)), the largest x_i in window o."""
    n = len(kernel_size)
    window = pooling.window_of("max_pool", n, kernel_size, stride, padding, dilation, ceil_mode)
    pooling.check_windows("max_pool", x, window)
    return pooled(x, pooling.window_positions(window, x), n, return_indices, window)


def backward(params: tuple[()], cache: Cache, g: Arrays) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o over all windows o with m(o) = i."""
    return given_back("max_pool", cache, g), ()


def pooled(
    x: Image, positions: Int[Tensor, "*planes_and_pooled k"], n: int, return_indices: bool,
    window: Window | None = None,
) -> tuple[Arrays, Cache]:  # fmt: skip
    """Find m(o), the first position in window o with the largest x_i, and y_o = x_(m(o))."""
    seen = pooling.picked(x, positions, n, -inf)
    is_largest = (seen == seen.amax(-1, keepdim=True)) | seen.isnan()
    m = torch.where(is_largest, positions, prod(x.shape[-n:])).min(-1).values
    y = pooling.picked(x, m.unsqueeze(-1), n, -inf).squeeze(-1)
    return (y, m) if return_indices else y, Cache(core.stand_in(x), m, n, return_indices, window)


def given_back(family: str, cache: Cache, g: Arrays) -> Image:
    """Compute dx_i = sum of g_o over all windows o with m(o) = i, after the checks."""
    dy, m = dy_of(family, cache, g), cache.indices
    return pooling.added_up(dy.unsqueeze(-1), m.unsqueeze(-1), cache.x, cache.n)


def dy_of(family: str, cache: Cache, g: Arrays) -> Tensor:
    """Check g, and return dy: g is (dy, None) where y is (y, indices)."""
    layer = f"{family}{cache.n}d"
    if cache.return_indices and (type(g) is not tuple or len(g) != 2):
        raise core.unexpected(layer, "g as (dy, None)", core.format_briefly(g))
    dy: Tensor = g[0] if cache.return_indices else g
    core.check_cotangent(layer, dy, cache.x, tuple(cache.indices.shape))
    return dy


def _max_pool_nd(
    n: int, kernel_size: PositiveSizes, stride: PositiveSizes | None = None,
    padding: NonNegativeSizes = 0, dilation: PositiveSizes = 1, *, ceil_mode: bool = False,
    return_indices: bool = False,
) -> Layer:  # fmt: skip
    """Take the largest element of each window of x, (channels, *spatial), or a batch of these.

    Args:
        kernel_size: of the window; like stride, one number for all axes or one for each.
        padding: elements of -inf on both sides, at most half of what a window covers.
        dilation: steps between a window's elements.
        return_indices: whether the output is (y, indices). The indices are int64 of y's shape: the
            flat position of each window's largest element within x's spatial axes, or their number
            of elements for a window with only padding. `backward` then takes g = (dy, None).

    Example:
        >>> x = torch.tensor([[[1.0, 5.0], [2.0, 3.0]]])
        >>> lf.max_pool2d(2, return_indices=True).predict((), x)
        (tensor([[[5.]]]), tensor([[[1]]]))
    """
    window = pooling.window_of("max_pool", n, kernel_size, stride, padding, dilation)
    return core.bare(Layer, partial(forward, kernel_size=window.kernel_size), backward)


max_pool1d, max_pool2d, max_pool3d = core.over_axes(_max_pool_nd, kind="max_pool")
