"""What layers over spatial axes share: numbers by axis, an image's shape, its order in memory."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.shapes import LayerError

Sizes = tuple[int, ...]


def per_axis(layer: str, name: str, value: int | Sizes, n: int, least: int = 0) -> Sizes:
    """Spell a hyperparameter out as one number a spatial axis.

    Args:
        layer: the layer's name.
        name: the hyperparameter's name.
        value: one number for all axes, or one for each.
        n: the number of spatial axes.
        least: the smallest number allowed.

    Returns:
        n numbers.

    Raises:
        LayerError: if there are not n of them, or one is too small.

    Example:
        >>> per_axis("conv2d", "stride", 2, 2), per_axis("conv2d", "stride", (2, 3), 2)
        ((2, 2), (2, 3))
    """
    values = (value,) * n if isinstance(value, int) else value
    if type(values) is not tuple or len(values) != n:
        raise LayerError(layer, f"expected {name} as an int or a tuple of {n}, got {value!r}")
    if min(values) < least:
        raise LayerError(layer, f"expected {name} of at least {least}, got {value!r}")
    return values


def check_image(layer: str, x: Tensor, n: int, channels: int | None = None) -> None:
    """Check that an input has channels, n spatial axes and at most one axis before them.

    Args:
        layer: the layer's name.
        x: the input, a floating tensor.
        n: the number of spatial axes.
        channels: how many channels; None if any number will do.

    Raises:
        LayerError: if it has not.

    Example:
        >>> check_image("conv1d", torch.zeros(2, 3, 5), 1, 4)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: conv1d: expected x of shape (4, l) or (batch, 4, l), \
got (2, 3, 5)
    """
    if x.ndim in (n + 1, n + 2) and channels in (None, x.shape[-n - 1]):
        return
    inner = f"{channels or 'channels'}, {', '.join(('d', 'h', 'w')[-n:] if n > 1 else 'l')}"
    shape = tuple(x.shape)
    raise LayerError(layer, f"expected x of shape ({inner}) or (batch, {inner}), got {shape}")


def channels_last(x: Tensor, channels: int | None = None) -> Tensor:
    """Give images the order in memory in which the CPU's kernels over planes are fastest.

    There a vector register holds neighbouring channels: max pooling takes a tenth of the time, a
    convolution half. With fewer channels than four it does not pay.

    Args:
        x: of any shape; images are (batch, channels, height, width).
        channels: the most that x and what is made of it have; None for those of x.

    Returns:
        The same numbers.

    Example:
        >>> channels_last(torch.zeros(2, 8, 5, 5)).stride()
        (200, 1, 40, 8)
    """
    if not _pays(x, channels):
        return x
    if x.shape[1] == 1:  # the same order already, which only the strides have to tell
        return x.squeeze(1).unsqueeze(-1).permute(0, 3, 1, 2)
    return x.permute(0, 2, 3, 1).contiguous().permute(0, 3, 1, 2)


def unwritten(x: Tensor) -> Tensor:
    """Give memory of the shape and order of `channels_last(x)`, for kernels that read only these.

    Args:
        x: of any shape; its numbers and its own order do not count.

    Returns:
        A tensor without any numbers.

    Example:
        >>> unwritten(torch.zeros(()).expand(2, 8, 5, 5)).stride()
        (200, 1, 40, 8)
    """
    if not _pays(x):
        return x.new_empty(x.shape)
    n, channels, height, width = x.shape
    return x.new_empty((n, height, width, channels)).permute(0, 3, 1, 2)


def _pays(x: Tensor, channels: int | None = None) -> bool:
    return x.ndim == 4 and x.device.type == "cpu" and (channels or x.shape[1]) >= 4
