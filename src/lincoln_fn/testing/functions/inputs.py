"""Other inputs to call a function with: in other layouts, of other sizes, with other numbers."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.functions.function import Function

# By which part numbers change.
NOISE = 0.1


def _strided(t: Tensor) -> Tensor:
    new = t.new_full((*t.shape, 2), _junk(t))
    new[..., 0] = t
    return new[..., 0]


def _in_a_cat(t: Tensor) -> Tensor:
    if not t.ndim:
        return t
    size = t.shape[-1]
    new = t.new_full((*t.shape[:-1], 3 * size), _junk(t))
    new[..., size : 2 * size] = t
    return new[..., size : 2 * size]


def _transposed(t: Tensor) -> Tensor:
    return t.movedim(0, -1).contiguous().movedim(-1, 0) if t.ndim else t


def _channels_last(t: Tensor) -> Tensor:
    return t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t


def _junk(t: Tensor) -> float:
    """Return what lies between the numbers of a tensor."""
    return torch.nan if t.is_floating_point() else 0


LAYOUTS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "strided, as every second column is": _strided,
    "a part of a larger tensor, as behind torch.cat": _in_a_cat,
    "transposed in memory": _transposed,
    "in channels_last": _channels_last,
}


def noisy(f: Function, key: Key, part: float = NOISE) -> tuple[object, ...]:
    """Change the numbers of the inputs that get gradients by a part of them, not their signs."""

    def changed(i: int) -> Tensor:
        value: Any = f.inputs[i]  # Any: a tensor
        drawn = keys.uniform(key.fold_in(i).near(value), tuple(value.shape), -part, part)
        return value * (1 + drawn.to(value))

    return f.placed(list(map(changed, f.which)))


def resized(f: Function, old: int, new: int) -> tuple[object, ...]:
    """Repeat or drop rows along each axis of a size, in all that the caller gives.

    Integers that count such rows, as indices do, stay below the new size. Of many rows, numbers
    become smaller, so that sums over them do not overflow what is made of them.
    """
    part = (old / new) ** 0.5 if new > 2 * old else 1.0

    def sized(value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        for axis, size in enumerate(value.shape):
            if size == old:
                rows = torch.arange(new, device=value.device) % max(old, 1)
                value = value.index_select(axis, rows)
                value = value * part if value.is_floating_point() else value
        if value.dtype in (torch.int32, torch.int64) and value.numel() and new < old:
            return torch.where(value >= new, value % max(new, 1), value)
        return value

    of_caller = f.inputs[: f.of_caller]
    return (*map(sized, of_caller), *f.inputs[f.of_caller :])


def repeats(f: Function, new: Sequence[object]) -> bool:
    """Return whether integers that differ along an axis do not in other inputs.

    Where they are places to write to, which of two numbers is kept is not defined.
    """
    pairs = zip(f.inputs, new, strict=True)
    return any(
        _differ(a, axis) and not _differ(b, axis)
        for a, b in pairs
        if isinstance(a, Tensor) and isinstance(b, Tensor) and a.dtype in (torch.int32, torch.int64)
        for axis, size in enumerate(a.shape)
        if size > 1
    )


def _differ(t: Tensor, axis: int) -> bool:
    return bool((t.sort(axis).values.diff(dim=axis) != 0).all())


def numbers_at(f: Function, old: int, new: int) -> int:
    """Count the numbers that `resized` would make."""
    shapes = [value.shape for value in f.inputs[: f.of_caller] if isinstance(value, Tensor)]
    return sum(math.prod(new if size == old else size for size in shape) for shape in shapes)


def sizes_of(f: Function) -> dict[int, bool]:
    """List the sizes of the axes of what the caller gives: whether last axes alone have it."""
    sizes: dict[int, bool] = {}
    for value in f.inputs[: f.of_caller]:
        if isinstance(value, Tensor):
            for axis, size in enumerate(value.shape, 1):
                if size:  # no row could be repeated
                    sizes[size] = sizes.get(size, True) and axis == value.ndim
    return sizes
