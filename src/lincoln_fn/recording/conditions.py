"""What a recorded program depends on beside the numbers of its arguments, compared at each call.

Only this file of the room touches `torch._C`: to compare layouts in one call, and to see modes.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import is_plain, is_transformed
from lincoln_fn.runtime import precision

# A function of as many tensors as it was made of.
Fits: TypeAlias = Callable[..., bool]
_TYPES: Final = (Tensor, torch.nn.Parameter)


def layouts(leaves: Sequence[Tensor]) -> tuple[Hashable, ...]:
    """Return the memory layout of tensors, which a compiled graph depends on."""
    try:
        return tuple([(leaf.shape, strides(leaf), leaf.dtype, leaf.device) for leaf in leaves])
    except (AttributeError, RuntimeError):
        return ()


def strides(x: Tensor) -> tuple[int, ...]:
    """Return a tensor's strides, 0 for an axis of one entry, whose stride does not matter."""
    shape, stride = x.shape, x.stride()
    if 1 not in shape:
        return stride
    return tuple([0 if n == 1 else s for n, s in zip(shape, stride, strict=True)])


def fits_like(tensors: Sequence[Tensor]) -> Fits:
    """Make a function that compares tensors' shapes, strides, dtypes and devices with these."""
    try:
        guards: Any = torch._C._dynamo.guards  # Any: torch does not say what is in there
        fits: Fits = guards.TensorGuards(
            *tensors, dynamic_dims_sizes=None, dynamic_dims_strides=None
        ).check
        return fits
    except (AttributeError, TypeError):  # a torch without this name
        kind = layouts(tensors)
        return lambda *others: layouts(others) == kind and not is_transformed(*others)


def address(tensor: Tensor) -> int:
    """Return where a tensor's memory lies."""
    return tensor.untyped_storage().data_ptr()


def conditions(
    tensors: Sequence[Tensor], place: Callable[[Tensor], int] | None
) -> tuple[object, ...]:
    """Return what a program depends on beside the structure and the layouts of its arguments.

    `place` is `id`, or `address`, of what tensors share that the program cannot tell from each
    other; None if it can.
    """
    places = [] if place is None else [*map(place, tensors)]
    return (
        None if len({*places}) == len(places) else tuple(map(places.index, places)),
        torch.get_num_threads(),
        precision(),
        torch.get_default_dtype(),
        torch.is_inference_mode_enabled(),
        torch.are_deterministic_algorithms_enabled(),
        _is_watched(),
    )


def can_be_recorded(tensors: Sequence[Tensor]) -> bool:
    """Return whether these are tensors with numbers, and neither torch nor a user looks on.

    Autograd, torch.func, tracers and modes see what Python calls, and not what was recorded.
    """
    return (
        not _is_watched()
        and all(type(t) in _TYPES and t.layout is torch.strided and not t.is_meta for t in tensors)
        and is_plain(*tensors)
    )


def _is_watched() -> bool:
    """Return whether a mode sees, or autocast changes, what is computed."""
    if torch._C._len_torch_dispatch_stack() or torch._C._len_torch_function_stack():
        return True
    return torch.is_autocast_enabled("cpu") or torch.is_autocast_enabled("cuda")
