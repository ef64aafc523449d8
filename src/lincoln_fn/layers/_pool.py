"""What the pooling layers share: their windows, and how many of them fit.

A window has k elements d apart, and the windows start s apart. Of an axis of size L, padded by p on
both sides, one window covers d (k - 1) + 1, so that

    floor((L + 2p - d (k - 1) - 1) / s) + 1

windows fit. With `ceil_mode` the quotient is rounded up, so that a last window may hang over the
end; but not one that would start in the padding behind x.

ATen has kernels for two and for three spatial axes; one axis is a plane of height 1.
"""

from __future__ import annotations

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._spatial import Sizes, check_image, per_axis
from lincoln_fn.shapes import LayerError, check_input


class Window(NamedTuple):
    """A window and how it moves, with one number a spatial axis, in the order of ATen's kernels."""

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
    layer: str,
    kernel_size: Sizes,
    stride: int | Sizes | None,
    padding: int | Sizes,
    dilation: int | Sizes,
    ceil_mode: bool,
) -> Window:
    """Make a window of hyperparameters as users write them.

    Args:
        layer: the layer's name.
        kernel_size: one size a spatial axis.
        stride: steps between windows; None for kernel_size.
        padding: on both sides of each axis.
        dilation: steps between a window's elements.
        ceil_mode: whether a last window may hang over the end.

    Returns:
        The window.

    Raises:
        LayerError: if a number is too small, there are too many or few, or the padding is so wide
            that a window may lie in it alone.

    Example:
        >>> window_of("max_pool2d", (2, 3), None, 0, 1, False).stride
        (2, 3)
    """
    n = len(kernel_size)
    window = Window(
        per_axis(layer, "kernel_size", kernel_size, n, 1),
        per_axis(layer, "stride", kernel_size if stride is None else stride, n, 1),
        per_axis(layer, "padding", padding, n),
        per_axis(layer, "dilation", dilation, n, 1),
        ceil_mode,
    )
    for k, p, d in zip(window.kernel_size, window.padding, window.dilation, strict=True):
        most = (d * (k - 1) + 1) // 2
        if p > most:
            problem = f"expected padding of at most {most} for kernel_size={k}"
            raise LayerError(layer, f"{problem} and dilation={d}, got {p}")
    return window


def pooled_shape(shape: Sizes, window: Window) -> Sizes:
    """Find the shape of y.

    Args:
        shape: of x.
        window: the window.

    Returns:
        The shape, whose spatial sizes are below 1 where no window fits.

    Example:
        >>> pooled_shape((5, 3, 7, 7), window_of("max_pool2d", (2, 2), (2, 3), 0, 1, True))
        (5, 3, 4, 3)
    """
    counts = []
    for size, k, s, p, d in zip(shape[-window.n :], *window[:4], strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        count = (room + s - 1 if window.ceil_mode else room) // s + 1
        starts_behind_x = window.ceil_mode and (count - 1) * s >= size + p
        counts.append(count - 1 if starts_behind_x else count)
    return (*shape[: -window.n], *counts)


def check_windows(layer: str, params: object, x: Tensor, window: Window) -> None:
    """Check that x has the axes that a window pools over, and room for one window.

    Args:
        layer: the layer's name.
        params: the parameters given, which should be ().
        x: the input given.
        window: the window.

    Raises:
        LayerError: if x is not such a tensor.

    Example:
        >>> window = window_of("max_pool1d", (5,), None, 0, 1, False)
        >>> check_windows("max_pool1d", (), torch.zeros(2, 4), window)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: max_pool1d: expected x with room for a window of (5,), got \
(2, 4)
    """
    check_spatial(layer, params, x, window.n)
    if min(pooled_shape(tuple(x.shape), window)[-window.n :]) < 1:
        problem = f"expected x with room for a window of {window.kernel_size}"
        raise LayerError(layer, f"{problem}, got {tuple(x.shape)}")


def check_spatial(layer: str, params: object, x: Tensor, n: int) -> None:
    """Check that x has channels and n spatial axes, none of them empty.

    Args:
        layer: the layer's name.
        params: the parameters given, which should be ().
        x: the input given.
        n: the number of spatial axes.

    Raises:
        LayerError: if x is not such a tensor.

    Example:
        >>> check_spatial("max_pool1d", (), torch.zeros(4), 1)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: max_pool1d: expected x of shape (channels, l) or \
(batch, channels, l), got (4,)
    """
    check_input(layer, params, x)
    check_image(layer, x, n)
    if 0 in x.shape[-n - 1 :]:
        raise LayerError(layer, f"expected x with no empty axis, got {tuple(x.shape)}")


def as_plane(x: Float[Tensor, "*batch length"]) -> Float[Tensor, "*batch 1 length"]:
    """Give a line the height 1, for kernels that pool over planes.

    Args:
        x: of shape (..., length).

    Returns:
        A view of shape (..., 1, length).

    Example:
        >>> as_plane(torch.zeros(2, 3)).shape
        torch.Size([2, 1, 3])
    """
    return x.unsqueeze(-2)


def plane_window(window: Window) -> Window:
    """Give a window over a line the height 1, for kernels that pool over planes.

    Args:
        window: over one axis.

    Returns:
        The window over two.

    Example:
        >>> plane_window(window_of("max_pool1d", (3,), None, 1, 1, False)).padding
        (0, 1)
    """
    kernel_size, stride, padding, dilation, ceil_mode = window
    return Window((1, *kernel_size), (1, *stride), (0, *padding), (1, *dilation), ceil_mode)


def adapted_sizes(output_size: tuple[int | None, ...], x: Tensor) -> Sizes:
    """Fill in the sizes that adaptive pooling leaves as they are.

    Args:
        output_size: of y's spatial axes; None for that of x.
        x: the input.

    Returns:
        The sizes.

    Example:
        >>> adapted_sizes((None, 2), torch.zeros(5, 3, 7, 4))
        (7, 2)
    """
    own = x.shape[-len(output_size) :]
    return tuple(
        given if size is None else size for size, given in zip(output_size, own, strict=True)
    )
