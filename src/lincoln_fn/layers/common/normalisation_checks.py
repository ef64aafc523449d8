"""Checks of the arguments of normalisations and their constructors."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn.core import BY_POSITION, NOT_EMPTY, LayerError, OpenSize, check_like, wrong_shape
from lincoln_fn.layers.common.normalisation import Running, Sizes

NormalizedShape: TypeAlias = Annotated[
    OpenSize | Annotated[Sequence[OpenSize], NOT_EMPTY], BY_POSITION
]


def check_batch(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running: Running | None,
    spatial_axes: int | None,
) -> int:  # fmt: skip
    """Check batch norm's x, with `spatial_axes` if it is given; return its channels' axis, 1."""
    numbers = running.mean if weight is None and running is not None else weight
    if spatial_axes is None:
        check_channels("batch_norm", x, numbers, bias)
    elif spatial_axes == 1:  # torch's BatchNorm1d takes (N, C) beside (N, C, L)
        _check_layouts("batch_norm", x, numbers, bias, ((1, 0), (1, 1)))
    else:
        _check_layouts("batch_norm", x, numbers, bias, ((1, spatial_axes),))
    _check_running("batch_norm", running, x.shape[1])
    return 1


def check_instances(
    x: Tensor, weight: Tensor | None, bias: Tensor | None, running: Running | None,
    spatial_axes: int | None,
) -> int:  # fmt: skip
    """Check instance norm's x and find its channels' axis: 1, or 0 for an example alone."""
    numbers = running.mean if weight is None and running is not None else weight
    if spatial_axes is None:
        check_channels("instance_norm", x, numbers, bias, least=3)
        axis = 1
    else:
        _check_layouts("instance_norm", x, numbers, bias, ((1, spatial_axes), (0, spatial_axes)))
        axis = x.ndim - spatial_axes - 1
    _check_running("instance_norm", running, x.shape[axis])
    return axis


def check_grouped(x: Tensor, weight: Tensor | None, bias: Tensor | None, num_groups: int) -> None:
    """Check group norm's x: (N, C, ...), with channels that can be divided into the groups."""
    check_channels("group_norm", x, weight, bias)
    if x.shape[1] % num_groups:
        problem = f"expected C to be a multiple of num_groups={num_groups}"
        raise LayerError("group_norm", f"{problem}, got x of shape {tuple(x.shape)}")


def check_count(layer: str, x: Tensor, count: int) -> None:
    """Check that a channel has more than one value, because one has no variance."""
    if count == 1:
        problem = f"expected more than one value for each channel, got x of shape {tuple(x.shape)}"
        raise LayerError(layer, problem)


def check_channels(
    layer: str, x: Tensor, numbers: Tensor | None, bias: Tensor | None, *, least: int = 2
) -> None:
    """Check that x is (N, C, ...) with at least `least` axes, and C numbers in params."""
    channels = "C" if numbers is None else str(numbers.shape[0])
    if x.ndim < least or (numbers is not None and x.shape[1] != numbers.shape[0]):
        axes = "".join(f", L{i}" for i in range(1, least - 1))
        expected = f"(N, {channels}{axes}, ...)"
        raise LayerError(layer, f"expected x of shape {expected}, got {tuple(x.shape)}")
    _check_affine(layer, x, numbers, bias, (x.shape[1],))


def _check_layouts(
    layer: str, x: Tensor, numbers: Tensor | None, bias: Tensor | None,
    layouts: Sequence[tuple[int, int]],
) -> None:  # fmt: skip
    """Check that x has one of some layouts: (axis of the channels, number of spatial axes)."""
    channels = None if numbers is None else numbers.shape[0]
    for axis, places in layouts:
        if x.ndim == axis + 1 + places and channels in (None, x.shape[axis]):
            _check_affine(layer, x, numbers, bias, (x.shape[axis],))
            return
    shapes = " or ".join(
        f"({', '.join(('N',) * axis + (str(channels or 'C'),))}"
        f"{''.join(f', L{i + 1}' for i in range(places))})"
        for axis, places in layouts
    )
    raise LayerError(layer, f"expected x of shape {shapes}, got {tuple(x.shape)}")


def trailing_sizes(
    layer: str, x: Tensor, normalized_shape: Sizes, weight: Tensor | None, bias: Tensor | None
) -> Sizes:
    """Find the sizes of the trailing axes, which -1 leaves open, and check them and params."""
    if weight is not None and not isinstance(weight, Tensor):
        raise wrong_shape(layer, "weight", weight, f"{normalized_shape}")
    expected = normalized_shape if weight is None else tuple(weight.shape)
    sizes = tuple(x.shape[x.ndim - len(normalized_shape) :]) if x.ndim else ()
    fits = len(sizes) == len(expected)
    if not fits or any(want not in (-1, size) for want, size in zip(expected, sizes, strict=True)):
        wanted = ", ".join("*" if want == -1 else str(want) for want in expected)
        raise LayerError(layer, f"expected x of shape (..., {wanted}), got {tuple(x.shape)}")
    _check_affine(layer, x, weight, bias, sizes)
    return sizes


def _check_affine(
    layer: str, x: Tensor, weight: Tensor | None, bias: Tensor | None, sizes: Sizes
) -> None:
    """Check that x, weight and bias have one dtype and device, and the bias the right shape."""
    if weight is not None:
        check_like(layer, "x", x, weight)
        if weight.shape != sizes:
            raise wrong_shape(layer, "weight", weight, f"{sizes}")
    if bias is not None:
        check_like(layer, "bias", bias, x)
        if bias.shape != sizes:
            raise wrong_shape(layer, "bias", bias, f"{sizes}")


def _check_running(layer: str, running: Running | None, channels: int) -> None:
    """Check that running statistics are one number per channel, and do not broadcast."""
    if running is None:
        return
    for name, given in (("mean", running.mean), ("var", running.var)):
        if given.shape != (channels,):
            raise wrong_shape(layer, f"running.{name}", given, f"({channels},)")


def sizes_of(normalized_shape: NormalizedShape) -> Sizes:
    """List the sizes of a constructor's normalized_shape."""
    return (normalized_shape,) if isinstance(normalized_shape, int) else tuple(normalized_shape)


def shown_sizes(sizes: Sizes) -> tuple[object, ...]:
    """List the arguments that show normalized_shape in a layer's name: none for the default."""
    shown: object = sizes[0] if len(sizes) == 1 else sizes
    return () if sizes == (-1,) else (shown,)
