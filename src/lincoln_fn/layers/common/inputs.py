"""What layers share about inputs: checks, those of normalisations too, sizes, axes and indices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Annotated, Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import NOT_EMPTY, OpenSize, Params, Sizes, check_axis, check_like, unexpected

# One axis, several, or None for all.
Dims: TypeAlias = int | Annotated[tuple[int, ...], NOT_EMPTY] | None
_INTEGERS: Final = {torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8}


def filled(sizes: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """Find the size that was left open with -1."""
    known = prod(size for size in sizes if size != -1)
    open_size = count // max(known, 1)
    sizes = tuple(open_size if size == -1 else size for size in sizes)
    return sizes if prod(sizes) == count else None


def per_axis(layer: str, name: str, value: int | Sizes, n: int) -> Sizes:
    """Write a hyperparameter as one number for each spatial axis."""
    values = (value,) * n if isinstance(value, int) else value
    if type(values) is not tuple or len(values) != n:
        raise unexpected(layer, f"{name} as an int or a tuple of {n}", repr(value))
    return values


def check_image(layer: str, x: Tensor, n: int, channels: int | None = None) -> None:
    """Check that an input has channels, n spatial axes and at most one axis before them."""
    if x.ndim in (n + 1, n + 2) and channels in (None, x.shape[-n - 1]):
        return
    inner = f"{channels or 'channels'}, {', '.join(('d', 'h', 'w')[-n:] if n > 1 else 'l')}"
    is_last = channels is not None and x.ndim in (n + 1, n + 2) and channels == x.shape[-1]
    mend = f"write x.movedim(-1, -{n + 1}), which has the channels first" if is_last else ""
    raise unexpected(layer, f"x of shape ({inner}) or (batch, {inner})", x.shape, mend)


def axes_of(layer: str, x: Tensor, dim: int | tuple[int, ...] | None) -> tuple[int, ...]:
    """Return the axes that are reduced, counted from the front, in ascending order."""
    if dim is None:
        return tuple(range(x.ndim))
    dims = (dim,) if isinstance(dim, int) else dim
    for each in dims:
        check_axis(layer, x, each)
    axes = sorted({each % x.ndim for each in dims})
    if len(axes) < len(dims):
        raise unexpected(layer, "different axes", f"dim={dim} for {x.ndim} axes")
    return tuple(axes)


def with_axes(reduced: Tensor, axes: tuple[int, ...]) -> Tensor:
    """Put the reduced axes back, with size 1."""
    for axis in axes:
        reduced = reduced.unsqueeze(axis)
    return reduced


def check_inputs(layer: str, x: object) -> None:
    """Check that x is a tuple of floating tensors of one dtype, on one device."""
    if type(x) is not tuple or not x:
        raise core.unexpected(layer, "x to be a tuple of tensors", core.describe_non_tuple(x))
    for i, x_i in enumerate(x):
        core.check_input(layer, (), x_i)
        check_like(layer, f"x[{i}]", x_i, x[0])


def check_form(layer: str, x: object, form: str) -> None:
    """Check that x is a tuple with an entry for each name of a form, such as "(x, index)"."""
    if type(x) is not tuple or len(x) != form.count(",") + 1:
        raise unexpected(layer, f"x to be {form}", core.describe_non_tuple(x))


def check_one_shape(layer: str, x: tuple[Tensor, ...]) -> None:
    """Check that tensors have one shape."""
    shapes = [tuple(x_i.shape) for x_i in x]
    if len(set(shapes)) > 1:
        raise unexpected(layer, "inputs of one shape", ", ".join(map(str, shapes)))


def check_indexed(layer: str, x: object, names: str, dim: int) -> None:
    """Check that x is a tuple of a floating tensor with an axis, indices, and floating tensors."""
    check_form(layer, x, names)
    parts: Any = x  # Any: each is checked here
    first, index, *rest = parts
    check_inputs(layer, (first, *rest))
    check_integers(layer, "index", index, first.device)
    check_axis(layer, first, dim)


def check_integers(
    layer: str, name: str, given: object, device: torch.device | None = None
) -> None:
    """Check that a tensor has integers of any size, and is on a device."""
    dtype = given.dtype if isinstance(given, Tensor) else type(given).__name__
    if dtype not in _INTEGERS:
        raise unexpected(layer, f"{name} to be a tensor of integers", dtype)
    if isinstance(given, Tensor) and device not in (None, given.device):
        raise unexpected(layer, f"{name} on {device}", given.device)


def in_range(layer: str, index: Tensor, size: int, compute: Callable[[], Tensor]) -> Tensor:
    """Compute something by indices; the error about one out of range says which."""
    try:
        return compute()
    except (IndexError, RuntimeError) as error:
        if "out of" not in str(error):
            raise
        low, high = index.aminmax()
        expected = f"indices from 0 to {size - 1}"
        raise unexpected(layer, expected, low if low < 0 else high) from error


def add_at(index: Tensor, values: Tensor, count: int, dim: int) -> Tensor:
    """Add up along an axis what belongs to each of `count` indices, in float32 at least.

    Many small numbers would stop growing in bfloat16 (256 + 1 = 256).
    """
    wide = values.to(torch.promote_types(values.dtype, torch.float32))
    shape = list(values.shape)
    shape[dim] = count
    return wide.new_zeros(shape).index_add(dim, index, wide).to(values.dtype)


NormalizedShape: TypeAlias = Annotated[
    OpenSize | Annotated[Sequence[OpenSize], NOT_EMPTY], core.BY_POSITION
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
    weight, bias = getattr(params, "weight", None), getattr(params, "bias", None)
    if weight is not None:
        check_like(layer, "x", x, weight)
        if weight.shape != sizes:
            raise core.wrong_shape(layer, "weight", weight, f"{sizes}")
    if bias is not None:
        check_like(layer, "bias", bias, x)
        if bias.shape != sizes:
            raise core.wrong_shape(layer, "bias", bias, f"{sizes}")
