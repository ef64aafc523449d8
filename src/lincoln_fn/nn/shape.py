"""Constructors of layers that change shapes: they move elements, or add some by interpolation."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.nn.build import layer_of

__all__ = [
    "flatten", "permute", "pixel_shuffle", "pixel_unshuffle", "reshape", "unflatten", "upsample",
]  # fmt: skip


def flatten(start_dim: int = 1, end_dim: int = -1) -> Layer:
    """Make a layer that joins neighbouring axes; by default, all but the batch.

    Args:
        start_dim: the first axis to join.
        end_dim: the last.

    Returns:
        The layer, without parameters.

    Example:
        >>> flatten(), flatten(2)
        (flatten(), flatten(start_dim=2))
    """
    name = call_repr("flatten", start_dim=(start_dim, 1), end_dim=(end_dim, -1))
    return layer_of(name, layers.flatten, start_dim=start_dim, end_dim=end_dim)


def unflatten(dim: int, unflattened_size: Sizes) -> Layer:
    """Make a layer that splits one axis into several.

    Args:
        dim: the axis.
        unflattened_size: what it is split into; one size may be -1, which is then found.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a size is neither positive nor the only -1.

    Example:
        >>> unflatten(1, (2, -1))
        unflatten(1, (2, -1))
    """
    sizes = _open("unflatten", "unflattened_size", unflattened_size)
    name = call_repr("unflatten", dim, sizes)
    return layer_of(name, layers.unflatten, dim=dim, unflattened_size=sizes)


def reshape(*shape: int) -> Layer:
    """Make a layer that gives each example another shape, and keeps the batch.

    Args:
        *shape: of one example; one size may be -1, which is then found.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if a size is neither positive nor the only -1.

    Example:
        >>> reshape(1, 28, 28)
        reshape(1, 28, 28)
    """
    return layer_of(
        call_repr("reshape", *shape), layers.reshape, shape=_open("reshape", "shape", shape)
    )


def permute(*dims: int) -> Layer:
    """Make a layer that puts axes, the batch among them, in another order.

    Args:
        *dims: which axis of x each axis of y is.

    Returns:
        The layer, without parameters.

    Example:
        >>> permute(0, 2, 3, 1)
        permute(0, 2, 3, 1)
    """
    return layer_of(call_repr("permute", *dims), layers.permute, dims=dims)


def pixel_shuffle(upscale_factor: int) -> Layer:
    """Make a layer that turns r^2 channels into one of r times the height and width.

    Args:
        upscale_factor: the factor r.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if upscale_factor is below 1.

    Example:
        >>> pixel_shuffle(2)
        pixel_shuffle(2)
    """
    _check_factor("pixel_shuffle", "upscale_factor", upscale_factor)
    return layer_of(
        call_repr("pixel_shuffle", upscale_factor),
        layers.pixel_shuffle,
        upscale_factor=upscale_factor,
    )


def pixel_unshuffle(downscale_factor: int) -> Layer:
    """Make a layer that turns one channel into r^2 of height and width divided by r.

    Args:
        downscale_factor: the factor r.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if downscale_factor is below 1.

    Example:
        >>> pixel_unshuffle(2)
        pixel_unshuffle(2)
    """
    _check_factor("pixel_unshuffle", "downscale_factor", downscale_factor)
    return layer_of(
        call_repr("pixel_unshuffle", downscale_factor),
        layers.pixel_unshuffle,
        downscale_factor=downscale_factor,
    )


def upsample(
    size: int | Sizes | None = None,
    scale_factor: float | tuple[float, ...] | None = None,
    mode: str = "nearest",
    align_corners: bool = False,
) -> Layer:
    """Make a layer that interpolates x of shape (batch, channels, *spatial).

    Args:
        size: of y, one number for all spatial axes or one for each.
        scale_factor: of y's size over x's, in place of size.
        mode: "nearest" or "nearest-exact", with any number of spatial axes; "linear" with one,
            "bilinear" or "bicubic" with two, "trilinear" with three.
        align_corners: whether the first and the last element of y lie over those of x, rather than
            the outer edges over each other. The nearest modes have no such choice.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if not just one of size and scale_factor is given, one is not positive, the
            mode is none of the above, or align_corners is asked of a nearest mode.

    Example:
        >>> upsample(scale_factor=2, mode="bilinear")
        upsample(scale_factor=2, mode='bilinear')
    """
    for what, given in (("size", size), ("scale_factor", scale_factor)):
        numbers = given if isinstance(given, tuple) else (given,)
        if any(number is not None and number <= 0 for number in numbers):
            raise ValueError(f"upsample: expected {what} above 0, got {given}")
    if (size is None) == (scale_factor is None):
        got = f"size={size} and scale_factor={scale_factor}"
        raise ValueError(f"upsample: expected either size or scale_factor, got {got}")
    if mode not in layers.upsample.MODES:
        raise ValueError(f"upsample: expected mode in {layers.upsample.MODES}, got {mode!r}")
    if align_corners and mode.startswith("nearest"):
        raise ValueError(f"upsample: expected no align_corners with mode={mode!r}")
    name = call_repr(
        "upsample",
        size=(size, None),
        scale_factor=(scale_factor, None),
        mode=(mode, "nearest"),
        align_corners=(align_corners, False),
    )
    return layer_of(
        name, layers.upsample,
        size=size, scale_factor=scale_factor, mode=mode, align_corners=align_corners,
    )  # fmt: skip


def _open(layer: str, what: str, sizes: Sizes) -> Sizes:
    """Check the sizes of a shape in which one may be left open."""
    if sizes.count(-1) > 1 or any(size < 1 and size != -1 for size in sizes):
        raise ValueError(f"{layer}: expected positive sizes and at most one -1, got {what}={sizes}")
    return tuple(sizes)


def _check_factor(layer: str, what: str, factor: int) -> None:
    if factor < 1:
        raise ValueError(f"{layer}: expected {what} of at least 1, got {factor}")
