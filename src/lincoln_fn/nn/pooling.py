"""Constructors of layers that pool windows of a given size: maxima and means."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._pool import window_of
from lincoln_fn.layers._spatial import Sizes, per_axis
from lincoln_fn.nn.build import layer_of

__all__ = [
    "avg_pool1d", "avg_pool2d", "avg_pool3d",
    "max_pool1d", "max_pool2d", "max_pool3d",
]  # fmt: skip


def max_pool1d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    dilation: int | Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a max pooling of x of shape (channels, length), or a batch of such.

    It takes and raises what `max_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> max_pool1d(3, stride=2)
        max_pool1d(3, stride=2)
    """
    return _max_pool(1, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool2d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    dilation: int | Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a max pooling of x of shape (channels, height, width), or a batch of such.

    y is the largest element of each window.

    Args:
        kernel_size: of the window; like the next, one number for all axes or one for each.
        stride: steps between windows; None for kernel_size.
        padding: elements of -inf on both sides, at most half of what a window covers.
        dilation: steps between a window's elements.
        ceil_mode: whether a last window may hang over the end.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is out of its range, or there are too many or few.

    Example:
        >>> max_pool2d((2, 3), padding=1, ceil_mode=True)
        max_pool2d((2, 3), padding=1, ceil_mode=True)
    """
    return _max_pool(2, kernel_size, stride, padding, dilation, ceil_mode)


def max_pool3d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    dilation: int | Sizes = 1,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a max pooling of x of shape (channels, depth, height, width), or a batch of such.

    It takes and raises what `max_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> max_pool3d(2, dilation=3)
        max_pool3d(2, dilation=3)
    """
    return _max_pool(3, kernel_size, stride, padding, dilation, ceil_mode)


def avg_pool1d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Layer:
    """Make an average pooling of x of shape (channels, length), or a batch of such.

    It takes and raises what `avg_pool2d` does, but for `divisor_override`.

    Returns:
        The layer, without parameters.

    Example:
        >>> avg_pool1d(3, padding=1, count_include_pad=False)
        avg_pool1d(3, padding=1, count_include_pad=False)
    """
    return _avg_pool(1, kernel_size, stride, padding, ceil_mode, count_include_pad, None)


def avg_pool2d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """Make an average pooling of x of shape (channels, height, width), or a batch of such.

    y is the mean of each window.

    Args:
        kernel_size: of the window; like the next, one number for all axes or one for each.
        stride: steps between windows; None for kernel_size.
        padding: zeros on both sides, at most half of kernel_size.
        ceil_mode: whether a last window may hang over the end.
        count_include_pad: whether the zeros count in the mean.
        divisor_override: what a window's sum is divided by; None for its number of elements.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is out of its range, or there are too many or few.

    Example:
        >>> avg_pool2d(2, divisor_override=1)
        avg_pool2d(2, divisor_override=1)
    """
    return _avg_pool(
        2, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def avg_pool3d(
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    *,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> Layer:
    """Make an average pooling of x of shape (channels, depth, height, width), or a batch of such.

    It takes and raises what `avg_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> avg_pool3d(2, stride=(1, 2, 2))
        avg_pool3d(2, stride=(1, 2, 2))
    """
    return _avg_pool(
        3, kernel_size, stride, padding, ceil_mode, count_include_pad, divisor_override
    )


def _max_pool(
    n: int,
    kernel_size: int | Sizes,
    stride: int | Sizes | None,
    padding: int | Sizes,
    dilation: int | Sizes,
    ceil_mode: bool,
) -> Layer:
    layer = f"max_pool{n}d"
    kernel = per_axis(layer, "kernel_size", kernel_size, n, 1)
    name = call_repr(
        layer, kernel_size,
        stride=(stride, None), padding=(padding, 0), dilation=(dilation, 1),
        ceil_mode=(ceil_mode, False),
    )  # fmt: skip
    window = window_of(layer, kernel, stride, padding, dilation, ceil_mode)
    return layer_of(name, layers.max_pool, **window._asdict())


def _avg_pool(
    n: int,
    kernel_size: int | Sizes,
    stride: int | Sizes | None,
    padding: int | Sizes,
    ceil_mode: bool,
    count_include_pad: bool,
    divisor_override: int | None,
) -> Layer:
    layer = f"avg_pool{n}d"
    if divisor_override == 0:
        raise ValueError(f"{layer}: expected divisor_override other than 0, got 0")
    kernel = per_axis(layer, "kernel_size", kernel_size, n, 1)
    name = call_repr(
        layer, kernel_size,
        stride=(stride, None), padding=(padding, 0), ceil_mode=(ceil_mode, False),
        count_include_pad=(count_include_pad, True), divisor_override=(divisor_override, None),
    )  # fmt: skip
    window = window_of(layer, kernel, stride, padding, 1, ceil_mode)
    return layer_of(
        name, layers.avg_pool,
        kernel_size=kernel, stride=window.stride, padding=window.padding, ceil_mode=ceil_mode,
        count_include_pad=count_include_pad, divisor_override=divisor_override,
    )  # fmt: skip
