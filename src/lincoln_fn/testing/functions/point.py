"""A function where it is called, what it gives there, and other inputs to call it with."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, RefusedError, Run, size_of
from lincoln_fn.testing.functions.value import Judge

Differ: TypeAlias = Callable[[Tensor, Tensor, float], bool]


class NotTriedError(Exception):
    """Raised if a trial would say nothing of a function; its reason becomes a remark."""


@attrs.frozen(eq=False)
class Point:
    """A function where it is called: a g, and the y and the gradients that are expected."""

    f: Function
    judge: Judge
    key: Key
    y: Sequence[Tensor]
    g: Sequence[Tensor]
    grads: Sequence[Tensor]
    # What else is other than as it was given.
    also: str = ""

    def told(
        self, where: str, hint: str = "", run: Run | None = None, differ: Differ | None = None
    ) -> Iterator[str]:
        """Run it, if it has not run, and say what is not as expected; it may refuse to run."""
        where, hint, differ = f"{where}{self.also}", hint and f": {hint}", differ or differs
        try:
            run = run or self.f.run()
            if any(differ(a, b, 0.0) for a, b in zip(run.y, self.y, strict=True)):
                yield f"y is wrong {where}{hint}"
                return
            given = run.gradients(self.g)
        except RefusedError:
            return
        except GradientError as error:
            yield f"{error}, {where}"
            return
        # Where terms cancel, as in a norm's dx, the error is that of the terms.
        size = max(size_of(t[t.isfinite()]) for t in (*self.grads, *self.g))
        pairs = enumerate(zip(given, self.grads, strict=True))
        if wrong := [n for n, (a, b) in pairs if differ(a, b, size)]:
            leaves = " and ".join(self.f.leaves[n] for n in wrong)
            are = "are" if len(wrong) > 1 else "is"
            yield f"{leaves} {are} wrong {where}{hint}{self.f.look(wrong[0])}"


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


# By which part numbers change.
NOISE = 0.1
_INTEGERS: Final = (torch.int32, torch.int64)


def _junk(t: Tensor) -> Tensor:
    """Make what lies beside the numbers of a tensor."""
    return torch.full_like(t, torch.nan if t.is_floating_point() else 0)


LAYOUTS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "strided, as every second column is": lambda t: torch.stack([t, _junk(t)], -1)[..., 0],
    "a part of a larger tensor, as behind torch.cat": lambda t: (
        torch.cat([_junk(t), t, _junk(t)], -1).tensor_split(3, -1)[1] if t.ndim else t
    ),
    "transposed in memory": lambda t: t.movedim(0, -1).contiguous().movedim(-1, 0) if t.ndim else t,
    "in channels_last": lambda t: (
        t.contiguous(memory_format=torch.channels_last) if t.ndim == 4 else t
    ),
}


def noisy(f: Function, key: Key, part: float = NOISE) -> Function:
    """Change the numbers of the inputs that get gradients by a part of them, not their signs."""

    def changed(i: int) -> Tensor:
        value: Any = f.inputs[i]  # Any: a tensor
        drawn = keys.uniform(key.fold_in(i).near(value), tuple(value.shape), -part, part)
        moved: Tensor = value * (1 + drawn.to(value))
        return moved

    return f.at(f.placed(list(map(changed, f.which))))


def resized(f: Function, old: int, new: int) -> Function:
    """Repeat or drop rows along each axis of a size, in all that the caller gives.

    Integers that count such rows, as indices do, stay below the new size. Of many rows, numbers
    become smaller, so that sums over them do not overflow what is made of them.
    """
    part = (old / new) ** 0.5 if new > 2 * old else 1.0

    def sized(value: object) -> object:
        if not isinstance(value, Tensor):
            return value
        for axis in [axis for axis, size in enumerate(value.shape) if size == old]:
            value = value.index_select(axis, torch.arange(new, device=value.device) % max(old, 1))
            value = value * part if value.is_floating_point() else value
        is_index = value.dtype in _INTEGERS and value.numel() and new < old
        return torch.where(value >= new, value % max(new, 1), value) if is_index else value

    return f.at((*map(sized, f.inputs[: f.of_caller]), *f.inputs[f.of_caller :]))


def repeats(f: Function, other: Function) -> bool:
    """Return whether integers that differ along an axis do not in other inputs.

    Where they are places to write to, which of two numbers is kept is not defined.
    """
    pairs = zip(_tensors(f), _tensors(other), strict=True)
    return any(
        _differ(a, axis) and not _differ(b, axis)
        for a, b in pairs
        if a.dtype in _INTEGERS
        for axis, size in enumerate(a.shape)
        if size > 1
    )


def _differ(t: Tensor, axis: int) -> bool:
    return bool((t.sort(axis).values.diff(dim=axis) != 0).all())


def _tensors(f: Function) -> Sequence[Tensor]:
    return [value for value in f.inputs[: f.of_caller] if isinstance(value, Tensor)]


def numbers_at(f: Function, old: int, new: int) -> int:
    """Count the numbers that `resized` would make."""
    return sum(math.prod(new if size == old else size for size in t.shape) for t in _tensors(f))


def sizes_of(f: Function) -> dict[int, bool]:
    """List the sizes of the axes of what the caller gives: whether last axes alone have it."""
    sizes: dict[int, bool] = {}
    for t in _tensors(f):
        for axis, size in enumerate(t.shape, 1):
            if size:  # no row could be repeated
                sizes[size] = sizes.get(size, True) and axis == t.ndim
    return sizes
