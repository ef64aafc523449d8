"""Constructors of layers that pad spatial axes, in torch's four ways."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.nn.build import layer_of

__all__ = [
    "circular_pad1d", "circular_pad2d", "circular_pad3d",
    "constant_pad1d", "constant_pad2d", "constant_pad3d",
    "reflection_pad1d", "reflection_pad2d", "reflection_pad3d",
    "replication_pad1d", "replication_pad2d", "replication_pad3d",
    "zero_pad1d", "zero_pad2d", "zero_pad3d",
]  # fmt: skip


def zero_pad1d(padding: int | Sizes) -> Layer:
    """Make a zero padding of x of shape (channels, length), or a batch.

    It is `zero_pad2d` with padding (left, right).

    Returns:
        The layer, without parameters.

    Example:
        >>> zero_pad1d((2, 1))
        zero_pad1d((2, 1))
    """
    return _pad(1, "zero", "constant", padding)


def zero_pad2d(padding: int | Sizes) -> Layer:
    """Make a zero padding of x of shape (channels, height, width), or a batch.

    x's spatial axes get zeros before and after.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number
            for all; negative ones take elements away.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if there are too many or too few numbers.

    Example:
        >>> zero_pad2d(1)
        zero_pad2d(1)
    """
    return _pad(2, "zero", "constant", padding)


def zero_pad3d(padding: int | Sizes) -> Layer:
    """Make a zero padding of x of shape (channels, depth, height, width), or a batch.

    It is `zero_pad2d` with padding (left, right, top, bottom, front, back).

    Returns:
        The layer, without parameters.

    Example:
        >>> zero_pad3d((1, 1, 2, 0, 0, 0))
        zero_pad3d((1, 1, 2, 0, 0, 0))
    """
    return _pad(3, "zero", "constant", padding)


def constant_pad1d(padding: int | Sizes, value: float) -> Layer:
    """Make a constant padding of x of shape (channels, length), or a batch.

    It is `constant_pad2d` with padding (left, right).

    Returns:
        The layer, without parameters.

    Example:
        >>> constant_pad1d((2, 1), 0.5)
        constant_pad1d((2, 1), 0.5)
    """
    return _pad(1, "constant", "constant", padding, value)


def constant_pad2d(padding: int | Sizes, value: float) -> Layer:
    """Make a constant padding of x of shape (channels, height, width), or a batch.

    x's spatial axes get a constant number before and after.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number
            for all; negative ones take elements away.
        value: of the new elements.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if there are too many or too few numbers.

    Example:
        >>> constant_pad2d(1, 0.5)
        constant_pad2d(1, 0.5)
    """
    return _pad(2, "constant", "constant", padding, value)


def constant_pad3d(padding: int | Sizes, value: float) -> Layer:
    """Make a constant padding of x of shape (channels, depth, height, width), or a batch.

    It is `constant_pad2d` with padding (left, right, top, bottom, front, back).

    Returns:
        The layer, without parameters.

    Example:
        >>> constant_pad3d((1, 1, 2, 0, 0, 0), 0.5)
        constant_pad3d((1, 1, 2, 0, 0, 0), 0.5)
    """
    return _pad(3, "constant", "constant", padding, value)


def reflection_pad1d(padding: int | Sizes) -> Layer:
    """Make a reflection padding of x of shape (channels, length), or a batch.

    It is `reflection_pad2d` with padding (left, right).

    Returns:
        The layer, without parameters.

    Example:
        >>> reflection_pad1d((2, 1))
        reflection_pad1d((2, 1))
    """
    return _pad(1, "reflection", "reflect", padding)


def reflection_pad2d(padding: int | Sizes) -> Layer:
    """Make a reflection padding of x of shape (channels, height, width), or a batch.

    x's spatial axes go on mirrored before and after, the edge not repeated.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number
            for all, each below the axis's size.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> reflection_pad2d(1)
        reflection_pad2d(1)
    """
    return _pad(2, "reflection", "reflect", padding)


def reflection_pad3d(padding: int | Sizes) -> Layer:
    """Make a reflection padding of x of shape (channels, depth, height, width), or a batch.

    It is `reflection_pad2d` with padding (left, right, top, bottom, front, back).

    Returns:
        The layer, without parameters.

    Example:
        >>> reflection_pad3d((1, 1, 2, 0, 0, 0))
        reflection_pad3d((1, 1, 2, 0, 0, 0))
    """
    return _pad(3, "reflection", "reflect", padding)


def replication_pad1d(padding: int | Sizes) -> Layer:
    """Make a replication padding of x of shape (channels, length), or a batch.

    It is `replication_pad2d` with padding (left, right).

    Returns:
        The layer, without parameters.

    Example:
        >>> replication_pad1d((2, 1))
        replication_pad1d((2, 1))
    """
    return _pad(1, "replication", "replicate", padding)


def replication_pad2d(padding: int | Sizes) -> Layer:
    """Make a replication padding of x of shape (channels, height, width), or a batch.

    x's spatial axes get their edge repeated before and after.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number
            for all.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> replication_pad2d(1)
        replication_pad2d(1)
    """
    return _pad(2, "replication", "replicate", padding)


def replication_pad3d(padding: int | Sizes) -> Layer:
    """Make a replication padding of x of shape (channels, depth, height, width), or a batch.

    It is `replication_pad2d` with padding (left, right, top, bottom, front, back).

    Returns:
        The layer, without parameters.

    Example:
        >>> replication_pad3d((1, 1, 2, 0, 0, 0))
        replication_pad3d((1, 1, 2, 0, 0, 0))
    """
    return _pad(3, "replication", "replicate", padding)


def circular_pad1d(padding: int | Sizes) -> Layer:
    """Make a circular padding of x of shape (channels, length), or a batch.

    It is `circular_pad2d` with padding (left, right).

    Returns:
        The layer, without parameters.

    Example:
        >>> circular_pad1d((2, 1))
        circular_pad1d((2, 1))
    """
    return _pad(1, "circular", "circular", padding)


def circular_pad2d(padding: int | Sizes) -> Layer:
    """Make a circular padding of x of shape (channels, height, width), or a batch.

    x's spatial axes get their other end before and after.

    Args:
        padding: how many elements to add: (left, right, top, bottom), or one number
            for all, each at most the axis's size.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a number is negative, or there are too many or too few.

    Example:
        >>> circular_pad2d(1)
        circular_pad2d(1)
    """
    return _pad(2, "circular", "circular", padding)


def circular_pad3d(padding: int | Sizes) -> Layer:
    """Make a circular padding of x of shape (channels, depth, height, width), or a batch.

    It is `circular_pad2d` with padding (left, right, top, bottom, front, back).

    Returns:
        The layer, without parameters.

    Example:
        >>> circular_pad3d((1, 1, 2, 0, 0, 0))
        circular_pad3d((1, 1, 2, 0, 0, 0))
    """
    return _pad(3, "circular", "circular", padding)


def _pad(n: int, kind: str, mode: str, padding: int | Sizes, value: float | None = None) -> Layer:
    layer = f"{kind}_pad{n}d"
    sizes = (padding,) * (2 * n) if isinstance(padding, int) else padding
    if type(sizes) is not tuple or len(sizes) != 2 * n:
        raise ValueError(
            f"{layer}: expected padding as an int or a tuple of {2 * n}, got {padding!r}"
        )
    if mode != "constant" and min(sizes) < 0:
        raise ValueError(f"{layer}: expected padding of at least 0, got {padding!r}")
    shown = (padding,) if value is None else (padding, value)
    return layer_of(
        call_repr(layer, *shown), layers.pad, padding=sizes, mode=mode, value=value or 0.0
    )
