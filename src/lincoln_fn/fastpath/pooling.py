"""Pooling over planes by ATen's kernels, in channels-last layout.

They read each window in place; the formulas copy all windows first. On one thread of a Zen 5,
forward and backward take 0.14 to 0.2 of the formula's time for max-pooling and 0.43 for average
pooling of (32, 64, 28, 28). A step of lenet-128 takes 1 / 2.2 of its time. Lines, volumes and
adaptive pooling gained less than a factor of 2, and are left to the formulas.

`lp_pool` has no row. ATen's kernels could add up powers of x, but these may overflow or underflow.
The formula divides by each window's largest element first.

In channels-last layout, a vector register holds neighbouring channels: max-pooling takes a tenth of
the time, a convolution half. With fewer than four channels nothing is gained.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Image, Layer, Sizes, check_cotangent, file_of, stand_in
from lincoln_fn.fastpath.twin import Argument, Twin
from lincoln_fn.layers import avg_pool, max_pool
from lincoln_fn.layers.avg_pool import Cache as AvgPoolCache
from lincoln_fn.layers.common.pooling import Window, check_windows, pooled_shape, window_of
from lincoln_fn.layers.max_pool import Cache as MaxPoolCache

aten = torch.ops.aten


def channels_last(x: Tensor, channels: int | None = None) -> Tensor:
    """Copy (batch, channels, height, width) to channels-last, if x or y has enough channels."""
    if not _pays(x, channels):
        return x
    if x.shape[1] == 1:  # the layout is the same already; only the strides have to say so
        return x.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def empty_like(x: Tensor) -> Tensor:
    """Allocate memory of the shape and layout of `channels_last(x)`, for kernels that read both."""
    if not _pays(x):
        return x.new_empty(x.shape)
    n, channels, height, width = x.shape
    return x.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _pays(x: Tensor, channels: int | None = None) -> bool:
    return x.ndim == 4 and x.device.type == "cpu" and (channels or x.shape[1]) >= 4


def max_pool_forward(
    params: tuple[()], x: Image, *, return_indices: bool = False, **options: Argument
) -> tuple[Arrays, MaxPoolCache]:
    """Compute the largest x_i of each window."""
    window = window_of("max_pool", len(options["kernel_size"]), **options)
    check_windows("max_pool", x, window)
    if not _supports(window):
        return max_pool.forward(params, x, return_indices=return_indices, **options)
    y, indices = aten.max_pool2d_with_indices(channels_last(x), *window)
    cache = MaxPoolCache(stand_in(x), indices, 2, return_indices, window)
    return (y, indices) if return_indices else y, cache


def max_pool_backward(
    params: tuple[()], cache: MaxPoolCache, g: Arrays
) -> tuple[Tensor, tuple[()]]:
    """Give each g_o to the element that was largest."""
    dy, window = max_pool.dy_of("max_pool", cache, g), cache.window
    if window is None or not _supports(window):
        return max_pool.backward(params, cache, g)
    dx: Tensor = aten.max_pool2d_with_indices_backward(
        channels_last(dy), empty_like(cache.x), *window, cache.indices
    )
    return dx, ()


def avg_pool_forward(
    params: tuple[()], x: Image, *, count_include_pad: bool = True,
    divisor_override: int | None = None, **options: Argument,
) -> tuple[Tensor, AvgPoolCache]:  # fmt: skip
    """Compute the mean of each window."""
    window = window_of("avg_pool", len(options["kernel_size"]), **options)
    if window.n != 2:
        options |= {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
        return avg_pool.forward(params, x, **options)
    check_windows("avg_pool", x, window)
    cache = AvgPoolCache(stand_in(x), window, count_include_pad, divisor_override)
    return aten.avg_pool2d(channels_last(x), *_arguments(cache)), cache


def avg_pool_backward(
    params: tuple[()], cache: AvgPoolCache, g: Tensor
) -> tuple[Tensor, tuple[()]]:
    """Spread each g_o / n_o over its window."""
    x, window = cache.x, cache.window
    if window.n != 2:
        return avg_pool.backward(params, cache, g)
    check_cotangent("avg_pool2d", g, x, pooled_shape(tuple(x.shape), window))
    dx: Tensor = aten.avg_pool2d_backward(channels_last(g), empty_like(x), *_arguments(cache))
    return dx, ()


def with_indices(layer: Layer) -> Layer:
    """Let a max-pooling layer find its maxima in one operation, if ONNX's is the same as ATen's."""
    is_ours = file_of(layer) is max_pool and layer.spec and not layer.spec["ceil_mode"]
    return TWINS[0].faster(layer) if is_ours else layer


def _arguments(cache: AvgPoolCache) -> tuple[Sizes, Sizes, Sizes, bool, bool, int | None]:
    kernel_size, stride, padding, _, ceil_mode = cache.window
    more = cache.count_include_pad, cache.divisor_override
    return kernel_size, stride, padding, ceil_mode, *more


def _supports(window: Window) -> bool:
    """Return whether ATen may pool: over planes, and every window contains some of x."""
    # A dilated window may contain only padding. Then ATen's backward writes outside of its memory.
    axes = zip(window.padding, window.dilation, strict=True)
    return window.n == 2 and not any(p and d > 1 for p, d in axes)


TWINS: Final = (
    Twin(max_pool, forward=max_pool_forward, backward=max_pool_backward),
    Twin(avg_pool, forward=avg_pool_forward, backward=avg_pool_backward),
)
