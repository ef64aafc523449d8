"""Shared by the pooling layers: their windows, and how many of them fit.

A window has k elements d apart, and the windows start s apart. A window covers d (k - 1) + 1
elements. So on an axis of size L, padded by p on both sides,

    floor((L + 2p - d (k - 1) - 1) / s) + 1

windows fit. With `ceil_mode` the quotient is rounded up, so that a last window may extend beyond
the end, unless it would start in the padding after x.
"""

from __future__ import annotations

from typing import NamedTuple, TypeAlias

from torch import Tensor

from lincoln_fn.core import LayerError, PositiveInt, require
from lincoln_fn.layers.common.spatial import Sizes, check_image, per_axis

OutputSize: TypeAlias = PositiveInt | tuple[PositiveInt | None, ...] | None


class Window(NamedTuple):
    """A window and how it moves, with one number per spatial axis."""

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    ceil_mode: bool

    @property
    def n(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel_size)


def window_of(
    family: str, n: int, kernel_size: int | Sizes, stride: int | Sizes | None = None,
    padding: int | Sizes = 0, dilation: int | Sizes = 1, ceil_mode: bool = False,
) -> Window:  # fmt: skip
    """Make a window over n axes of hyperparameters as users write them, and check them.

    Example:
        >>> window_of("max_pool", 2, (2, 3)).stride
        (2, 3)
    """
    layer = f"{family}{n}d"
    window = Window(
        per_axis(layer, "kernel_size", kernel_size, n),
        per_axis(layer, "stride", kernel_size if stride is None else stride, n),
        per_axis(layer, "padding", padding, n),
        per_axis(layer, "dilation", dilation, n),
        ceil_mode,
    )
    for k, p, d in zip(window.kernel_size, window.padding, window.dilation, strict=True):
        most = (d * (k - 1) + 1) // 2
        if p > most:
            problem = f"expected padding of at most {most} for kernel_size={k}"
            raise LayerError(layer, f"{problem} and dilation={d}, got {p}")
    return window


def pooled_shape(shape: Sizes, window: Window) -> Sizes:
    """Find the shape of y, whose spatial sizes are below 1 where no window fits.

    Example:
        >>> pooled_shape((5, 3, 7, 7), window_of("max_pool", 2, 2, (2, 3), ceil_mode=True))
        (5, 3, 4, 3)
    """
    counts = []
    for size, k, s, p, d in zip(shape[-window.n :], *window[:4], strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        count = (room + s - 1 if window.ceil_mode else room) // s + 1
        starts_behind_x = window.ceil_mode and (count - 1) * s >= size + p
        counts.append(count - 1 if starts_behind_x else count)
    return (*shape[: -window.n], *counts)


def check_windows(family: str, x: Tensor, window: Window) -> None:
    """Check that x has the axes that a window pools over, and room for one window.

    Example:
        >>> check_windows("max_pool", torch.zeros(2, 4), window_of("max_pool", 1, 5))
        Traceback (most recent call last):
        lincoln_fn.LayerError: max_pool1d: expected x with room for a window of (5,), got \
(2, 4)
    """
    check_spatial(family, x, window.n)
    if min(pooled_shape(tuple(x.shape), window)[-window.n :]) < 1:
        problem = f"expected x with room for a window of {window.kernel_size}"
        raise LayerError(f"{family}{window.n}d", f"{problem}, got {tuple(x.shape)}")


def check_spatial(family: str, x: Tensor, n: int) -> None:
    """Check that x has channels and n spatial axes, none of them empty.

    Example:
        >>> check_spatial("max_pool", torch.zeros(4), 1)
        Traceback (most recent call last):
        lincoln_fn.LayerError: max_pool1d: expected x of shape (channels, l) or \
(batch, channels, l), got (4,)
    """
    layer = f"{family}{n}d"
    check_image(layer, x, n)
    if 0 in x.shape[-n - 1 :]:
        raise LayerError(layer, f"expected x with no empty axis, got {tuple(x.shape)}")


def output_sizes(layer: str, output_size: OutputSize, n: int) -> tuple[int | None, ...]:
    """Write output_size as one number per axis, and check their number.

    Example:
        >>> output_sizes("adaptive_avg_pool2d", None, 2)
        (None, None)
    """
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * n
    require(len(sizes) == n, layer, f"output_size as an int or a tuple of {n}", output_size)
    return sizes
