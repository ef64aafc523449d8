"""Constructors of layers that pool to an output of a given size, or to a single number."""

from __future__ import annotations

from types import ModuleType

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = [
    "adaptive_avg_pool1d", "adaptive_avg_pool2d", "adaptive_avg_pool3d",
    "adaptive_max_pool1d", "adaptive_max_pool2d", "adaptive_max_pool3d",
    "global_avg_pool",
]  # fmt: skip

OutputSize = int | None | tuple[int | None, ...]


def global_avg_pool(*, keepdim: bool = False) -> Layer:
    """Make a global average pooling of x of shape (batch, channels, *spatial).

    y is the mean of each channel over all spatial axes.

    Args:
        keepdim: whether y keeps the spatial axes, with size 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> global_avg_pool(), global_avg_pool(keepdim=True)
        (global_avg_pool(), global_avg_pool(keepdim=True))
    """
    return layer_of(
        call_repr("global_avg_pool", keepdim=(keepdim, False)), layers.global_avg_pool,
        keepdim=keepdim,
    )  # fmt: skip


def adaptive_avg_pool1d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, length), or a batch.

    It takes and raises what `adaptive_avg_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> adaptive_avg_pool1d(4)
        adaptive_avg_pool1d(4)
    """
    return _adaptive("adaptive_avg_pool", 1, layers.adaptive_avg_pool, output_size)


def adaptive_avg_pool2d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, height, width), or a batch.

    y is the mean of each window, and the windows are as wide as output_size asks for.

    Args:
        output_size: of y, one number for all axes or one for each; None for x's own.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is below 1, or there are too many or few.

    Example:
        >>> adaptive_avg_pool2d((4, None))
        adaptive_avg_pool2d((4, None))
    """
    return _adaptive("adaptive_avg_pool", 2, layers.adaptive_avg_pool, output_size)


def adaptive_avg_pool3d(output_size: OutputSize) -> Layer:
    """Make an adaptive average pooling of x of shape (channels, depth, height, width), or a batch.

    It takes and raises what `adaptive_avg_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> adaptive_avg_pool3d((2, 4, 4))
        adaptive_avg_pool3d((2, 4, 4))
    """
    return _adaptive("adaptive_avg_pool", 3, layers.adaptive_avg_pool, output_size)


def adaptive_max_pool1d(output_size: OutputSize) -> Layer:
    """Make an adaptive max pooling of x of shape (channels, length), or a batch.

    It takes and raises what `adaptive_max_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> adaptive_max_pool1d(4)
        adaptive_max_pool1d(4)
    """
    return _adaptive("adaptive_max_pool", 1, layers.adaptive_max_pool, output_size)


def adaptive_max_pool2d(output_size: OutputSize) -> Layer:
    """Make an adaptive max pooling of x of shape (channels, height, width), or a batch.

    y is the largest element of each window, and the windows are as wide as output_size asks for.

    Args:
        output_size: of y, one number for all axes or one for each; None for x's own.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is below 1, or there are too many or few.

    Example:
        >>> adaptive_max_pool2d((4, None))
        adaptive_max_pool2d((4, None))
    """
    return _adaptive("adaptive_max_pool", 2, layers.adaptive_max_pool, output_size)


def adaptive_max_pool3d(output_size: OutputSize) -> Layer:
    """Make an adaptive max pooling of x of shape (channels, depth, height, width), or a batch.

    It takes and raises what `adaptive_max_pool2d` does.

    Returns:
        The layer, without parameters.

    Example:
        >>> adaptive_max_pool3d((2, 4, 4))
        adaptive_max_pool3d((2, 4, 4))
    """
    return _adaptive("adaptive_max_pool", 3, layers.adaptive_max_pool, output_size)


def _adaptive(family: str, n: int, module: ModuleType, output_size: OutputSize) -> Layer:
    layer = f"{family}{n}d"
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * n
    if len(sizes) != n or any(size is not None and size < 1 for size in sizes):
        raise ValueError(
            f"{layer}: expected output_size of {n} numbers of at least 1, got {output_size}"
        )
    return layer_of(call_repr(layer, output_size), module, output_size=sizes)
