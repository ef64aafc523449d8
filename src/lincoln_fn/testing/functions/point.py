"""A function where it is called, other inputs to call it with, and when two results differ."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, Run, size_of
from lincoln_fn.testing.functions.value import Judge

Gradients: TypeAlias = list[Tensor]
# By which part numbers change.
NOISE = 0.1


class NotTriedError(Exception):
    """Raised if a trial would say nothing of a function; its reason becomes a remark."""


@attrs.frozen(eq=False)
class Point:
    """A function where it is called: a run, a g, and the gradients."""

    f: Function
    judge: Judge
    key: Key
    run: Run
    g: tuple[Tensor, ...]
    grads: Gradients
    # What else is other than as it was given.
    also: str = ""

    def told(
        self,
        where: str,
        compute: Callable[[], Gradients],
        expected: Gradients | None = None,
        hint: str = "",
    ) -> Iterator[str]:
        """Compare gradients that are computed in another way; of an error, say what is raised."""
        try:
            given = compute()
        except GradientError as error:
            yield f"{error}, {where}{self.also}"
            return
        # Where terms cancel, as in a norm's dx, the error is that of the terms.
        size = max(size_of(t[t.isfinite()]) for t in (*self.grads, *self.g))
        pairs = enumerate(zip(given, expected or self.grads, strict=True))
        wrong = [n for n, (a, b) in pairs if differs(a, b, size)]
        if wrong:
            leaves = " and ".join(self.f.leaves[n] for n in wrong)
            are = "are" if len(wrong) > 1 else "is"
            look = self.f.look(wrong[0])
            yield f"{leaves} {are} wrong {where}{self.also}{look}{hint and f': {hint}'}"


def differs(given: Tensor, expected: Tensor, size: float = 0.0) -> bool:
    """Return whether two results of one function differ by more than another order of sums."""
    if given.shape != expected.shape:
        return True
    is_finite = expected.isfinite()
    error = (given - expected)[is_finite].abs()
    if not error.numel():
        return False
    part = min(1e3 * torch.finfo(given.dtype).eps, 0.1)
    return not bool(error.max() <= part * max(size_of(expected[is_finite]), 0.1 * size))


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
        moved: Tensor = value * (1 + drawn.to(value))
        return moved

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
