"""Checks of the arguments of normalisations and their constructors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import BY_POSITION, NOT_EMPTY, OpenSize, Params, Sizes, check_like, unexpected

NormalizedShape: TypeAlias = Annotated[
    OpenSize | Annotated[Sequence[OpenSize], NOT_EMPTY], BY_POSITION
]


def check_batch(params: object, x: Tensor, spatial_axes: int | None) -> int:
    """Check batch norm's x, with `spatial_axes` if it is given; return its channels' axis, 1."""
    if spatial_axes == 1:  # torch's BatchNorm1d takes (N, C) beside (N, C, L)
        return check_channels("batch_norm", params, x, "N, C", "N, C, L1")
    places = "..." if spatial_axes is None else _places(spatial_axes)
    return check_channels("batch_norm", params, x, f"N, C, {places}")


def check_instances(params: object, x: Tensor, spatial_axes: int | None) -> int:
    """Check instance norm's x and find its channels' axis: 1, or 0 for an example alone."""
    if spatial_axes is None:
        return check_channels("instance_norm", params, x, "N, C, L1, ...")
    places = _places(spatial_axes)
    return check_channels("instance_norm", params, x, f"N, C, {places}", f"C, {places}")


def _places(count: int) -> str:
    return ", ".join(f"L{i + 1}" for i in range(count))


def check_grouped(params: object, x: Tensor, num_groups: int) -> None:
    """Check group norm's x: (N, C, ...), with channels that can be divided into the groups."""
    check_channels("group_norm", params, x, "N, C, ...")
    if x.shape[1] % num_groups:
        expected = f"C to be a multiple of num_groups={num_groups}"
        raise unexpected("group_norm", expected, f"x of shape {tuple(x.shape)}")


def check_count(layer: str, x: Tensor, count: int) -> None:
    """Check that a channel has more than one value, because one has no variance."""
    if count == 1:
        expected = "more than one value for each channel"
        raise unexpected(layer, expected, f"x of shape {tuple(x.shape)}")


def check_channels(layer: str, params: Params, x: Tensor, *forms: str) -> int:
    """Check that x has one of some forms, and params fit it; return the axis of the channels C."""
    weight, running = getattr(params, "weight", None), getattr(params, "running", None)
    numbers = running.mean if weight is None and running is not None else weight
    count = None if numbers is None else numbers.shape[0]
    for form in forms:
        names = form.removesuffix(", ...").split(", ")
        axis, more = names.index("C"), x.ndim - len(names)
        fits = more == 0 or (more > 0 and form.endswith("..."))
        if fits and count in (None, x.shape[axis]):
            break
    else:
        shapes = " or ".join(f"({form})" for form in forms).replace("C", str(count or "C"))
        raise core.wrong_shape(layer, "x", x, shapes)
    sizes = (x.shape[axis],)
    _check_affine(layer, params, x, sizes)
    for name in ("mean", "var") if running is not None else ():
        if (given := getattr(running, name)).shape != sizes:  # it would broadcast
            raise core.wrong_shape(layer, f"running.{name}", given, f"{sizes}")
    return axis


def trailing_sizes(layer: str, params: Params, x: Tensor, normalized_shape: int | Sizes) -> Sizes:
    """Find the sizes of the trailing axes, which -1 leaves open, and check them and params."""
    own = (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)
    weight = getattr(params, "weight", None)
    if weight is not None and not isinstance(weight, Tensor):
        raise core.wrong_shape(layer, "weight", weight, f"{own}")
    expected = own if weight is None else tuple(weight.shape)
    sizes = tuple(x.shape[x.ndim - len(own) :]) if x.ndim else ()
    fits = len(sizes) == len(expected)
    if not fits or any(want not in (-1, size) for want, size in zip(expected, sizes, strict=True)):
        wanted = ", ".join("*" if want == -1 else str(want) for want in expected)
        raise core.wrong_shape(layer, "x", x, f"(..., {wanted})")
    _check_affine(layer, params, x, sizes)
    return sizes


def _check_affine(layer: str, params: Params, x: Tensor, sizes: Sizes) -> None:
    """Check that x, weight and bias have one dtype and device, and the right shape."""
    weight, bias = getattr(params, "weight", None), getattr(params, "bias", None)
    if weight is not None:
        check_like(layer, "x", x, weight)
        if weight.shape != sizes:
            raise core.wrong_shape(layer, "weight", weight, f"{sizes}")
    if bias is not None:
        check_like(layer, "bias", bias, x)
        if bias.shape != sizes:
            raise core.wrong_shape(layer, "bias", bias, f"{sizes}")
