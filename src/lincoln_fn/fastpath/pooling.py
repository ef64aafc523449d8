"""Pooling by ATen's kernels, planes in channels-last layout.

ATen has kernels for two and for three spatial axes; one axis is a plane of height 1. They read each
window where it is, while the formulas copy all windows first. Of the formulas' time, forward and
backward take with one thread:

    max-pooling      0.06 to 0.1 over planes of 28 x 28, 0.14 over lines, 0.5 over volumes
    average pooling  0.2 to 0.3 over planes, 0.6 over volumes, 0.9 over lines

`lp_pool` has no row. The powers of x itself, as ATen's kernels could add them up, overflow or
vanish where the formula, which divides by each window's largest element first, does not.
"""

from __future__ import annotations

from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.fastpath._layout import channels_last, unwritten
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.layer import Arrays
from lincoln_fn.layers import avg_pool, max_pool
from lincoln_fn.layers._pool import (
    Window,
    check_windows,
    dy_of,
    pooled_shape,
    stand_in,
    window_of,
)
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.shapes import check_cache, check_cotangent

aten = torch.ops.aten
# Any: hyperparameters of any kind.
Options: TypeAlias = Any


def max_pool_forward(
    params: tuple[()], x: Tensor, *, return_indices: bool = False, **options: Options
) -> tuple[Arrays, max_pool.Cache]:
    """Compute the largest x_i of each window."""
    layer = f"max_pool{len(options['kernel_size'])}d"
    window = window_of(layer, **options)
    check_windows(layer, params, x, window)
    if not _supports(window, x):
        return max_pool.forward(params, x, return_indices=return_indices, **options)
    if window.n == 1:
        y, indices = aten.max_pool2d_with_indices(as_plane(x), *_plane_window(window))
        y, indices = y.squeeze(-2), indices.squeeze(-2)
    elif window.n == 2:
        y, indices = aten.max_pool2d_with_indices(channels_last(x), *window)
    else:
        y, indices = aten.max_pool3d_with_indices(_in_order(x), *window)
    cache = max_pool.Cache(stand_in(x), indices, window, return_indices)
    return (y, indices) if return_indices else y, cache


def max_pool_backward(
    params: tuple[()], cache: max_pool.Cache, g: Arrays
) -> tuple[Tensor, tuple[()]]:
    """Give each g_o to the element that was largest."""
    check_cache("max_pool", cache, max_pool.Cache)
    x, indices, window = cache.x, cache.indices, cache.window
    if not _supports(window, x):
        return max_pool.backward(params, cache, g)
    dy = dy_of(f"max_pool{window.n}d", g, cache.return_indices)
    check_cotangent(f"max_pool{window.n}d", dy, x, tuple(indices.shape))
    x = unwritten(x) if window.n == 2 else x.new_empty(x.shape)
    if window.n == 1:
        dx: Tensor = aten.max_pool2d_with_indices_backward(
            as_plane(dy), as_plane(x), *_plane_window(window), as_plane(indices)
        )
        return dx.squeeze(-2), ()
    if window.n == 2:
        dy = channels_last(dy)
        return aten.max_pool2d_with_indices_backward(dy, x, *window, indices), ()
    return aten.max_pool3d_with_indices_backward(_in_order(dy), x, *window, indices), ()


def avg_pool_forward(
    params: tuple[()],
    x: Tensor,
    *,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
    **options: Options,
) -> tuple[Tensor, avg_pool.Cache]:
    """Compute the mean of each window."""
    layer = f"avg_pool{len(options['kernel_size'])}d"
    window = window_of(layer, **options)
    check_windows(layer, params, x, window)
    if _is_larger(window, x):
        options |= {"count_include_pad": count_include_pad, "divisor_override": divisor_override}
        return avg_pool.forward(params, x, **options)
    cache = avg_pool.Cache(stand_in(x), window, count_include_pad, divisor_override)
    if window.n == 1:
        y: Tensor = aten.avg_pool2d(as_plane(x), *_arguments(cache))
        return y.squeeze(-2), cache
    if window.n == 2:
        return aten.avg_pool2d(channels_last(x), *_arguments(cache)), cache
    return aten.avg_pool3d(wide(x), *_arguments(cache)).to(x.dtype), cache


def avg_pool_backward(
    params: tuple[()], cache: avg_pool.Cache, g: Tensor
) -> tuple[Tensor, tuple[()]]:
    """Spread each g_o / n_o over its window."""
    check_cache("avg_pool", cache, avg_pool.Cache)
    x, window = cache.x, cache.window
    if _is_larger(window, x):
        return avg_pool.backward(params, cache, g)
    check_cotangent(f"avg_pool{window.n}d", g, x, pooled_shape(tuple(x.shape), window))
    x = unwritten(x) if window.n == 2 else x.new_empty(x.shape)
    if window.n == 1:
        dx: Tensor = aten.avg_pool2d_backward(as_plane(g), as_plane(x), *_arguments(cache))
        return dx.squeeze(-2), ()
    if window.n == 2:
        return aten.avg_pool2d_backward(channels_last(g), x, *_arguments(cache)), ()
    return aten.avg_pool3d_backward(wide(g), wide(x), *_arguments(cache)).to(x.dtype), ()


def _is_larger(window: Window, x: Tensor) -> bool:
    """Return whether a window is larger than a volume before it is padded, which ATen refuses."""
    sizes = zip(window.kernel_size, x.shape[-window.n :], strict=True)
    return window.n == 3 and any(k > size for k, size in sizes)


def _arguments(cache: avg_pool.Cache) -> tuple[Sizes, Sizes, Sizes, bool, bool, int | None]:
    """List what ATen's kernels take after the tensors."""
    window = _plane_window(cache.window) if cache.window.n == 1 else cache.window
    return (
        window.kernel_size, window.stride, window.padding, window.ceil_mode,
        cache.count_include_pad, cache.divisor_override,
    )  # fmt: skip


def wide(x: Tensor) -> Tensor:
    """Widen 16-bit numbers, for which ATen lacks some kernels on the CPU."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def _in_order(x: Tensor) -> Tensor:
    """Give (channels, depth, height, width) the order that ATen wants: it refuses channels-last."""
    return x.contiguous() if x.ndim == 4 else x


def as_plane(x: Tensor) -> Tensor:
    """Give a line the height 1."""
    return x.unsqueeze(-2)


def _plane_window(window: Window) -> Window:
    """Give a window over a line the height 1."""
    kernel_size, stride, padding, dilation, ceil_mode = window
    return Window((1, *kernel_size), (1, *stride), (0, *padding), (1, *dilation), ceil_mode)


def _supports(window: Window, x: Tensor) -> bool:
    """Return whether ATen pools such windows: padded by half a kernel at most, and all see x.

    Of a window that sees only padding, ATen's backward writes outside of its memory.
    """
    if not any(p and d > 1 for p, d in zip(window.padding, window.dilation, strict=True)):
        return True
    if any(p > k // 2 for p, k in zip(window.padding, window.kernel_size, strict=True)):
        return False
    counts = pooled_shape(tuple(x.shape), window)[-window.n :]
    axes = zip(counts, x.shape[-window.n :], *window[:4], strict=True)
    return all(
        any(0 <= o * s - p + t * d < size for t in range(k))
        for count, size, k, s, p, d in axes
        for o in range(count)
    )


TWINS: Final = (
    Twin(max_pool, forward=max_pool_forward, backward=max_pool_backward),
    Twin(avg_pool, forward=avg_pool_forward, backward=avg_pool_backward),
)
