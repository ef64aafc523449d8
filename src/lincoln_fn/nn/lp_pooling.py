"""Constructors of power-average pooling, between the sum and the maximum of a window."""

from __future__ import annotations

from math import inf

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._pool import window_of
from lincoln_fn.layers._spatial import Sizes, per_axis
from lincoln_fn.nn.build import layer_of

__all__ = ["lp_pool1d", "lp_pool2d", "lp_pool3d"]


def lp_pool1d(
    norm_type: float,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a power-average pooling of x of shape (channels, length), or a batch.

    It takes and raises what `lp_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> lp_pool1d(2, 3)
        lp_pool1d(2, 3)
    """
    return _lp_pool(1, norm_type, kernel_size, stride, ceil_mode)


def lp_pool2d(
    norm_type: float,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a power-average pooling of x of shape (channels, height, width), or a batch.

    y is (sum of x_i^p)^(1/p) of each window.

    Args:
        norm_type: the power p, from 1 to below infinity.
        kernel_size: of the window; like the next, one number for all axes or one for each.
        stride: steps between windows; None for kernel_size.
        ceil_mode: whether a last window may hang over the end.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is out of its range, or there are too many or few.

    Example:
        >>> lp_pool2d(1.5, (2, 3), stride=2)
        lp_pool2d(1.5, (2, 3), stride=2)
    """
    return _lp_pool(2, norm_type, kernel_size, stride, ceil_mode)


def lp_pool3d(
    norm_type: float,
    kernel_size: int | Sizes,
    stride: int | Sizes | None = None,
    *,
    ceil_mode: bool = False,
) -> Layer:
    """Make a power-average pooling of x of shape (channels, depth, height, width), or a batch.

    It takes and raises what `lp_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> lp_pool3d(2, 2, ceil_mode=True)
        lp_pool3d(2, 2, ceil_mode=True)
    """
    return _lp_pool(3, norm_type, kernel_size, stride, ceil_mode)


def _lp_pool(
    n: int,
    norm_type: float,
    kernel_size: int | Sizes,
    stride: int | Sizes | None,
    ceil_mode: bool,
) -> Layer:
    layer = f"lp_pool{n}d"
    if not 1 <= norm_type < inf:
        raise ValueError(f"{layer}: expected norm_type from 1 to below infinity, got {norm_type}")
    kernel = per_axis(layer, "kernel_size", kernel_size, n, 1)
    name = call_repr(
        layer, norm_type, kernel_size, stride=(stride, None), ceil_mode=(ceil_mode, False)
    )
    window = window_of(layer, kernel, stride, 0, 1, ceil_mode)
    return layer_of(
        name, layers.lp_pool,
        norm_type=norm_type, kernel_size=kernel, stride=window.stride, ceil_mode=ceil_mode,
    )  # fmt: skip
