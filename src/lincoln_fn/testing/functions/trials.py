"""What is tried beside the value: each trial runs the function in another way, and compares.

A trial is a function of a point. It yields what differs, in sentences; nothing differs of a right
function. A forward that refuses what is tried, by an error, is not told; a backward is.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final, TypeAlias
from unittest import mock

import numpy as np
import torch
from attrs import evolve, frozen
from torch import Tensor

from lincoln_fn.core import Key, keys
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, RefusedError, Run, copied
from lincoln_fn.testing.functions.value import Judge
from lincoln_fn.testing.oracles import size_of

Differ: TypeAlias = Callable[[Tensor, Tensor, float], bool]


class NotTriedError(Exception):
    """Raised if a trial would say nothing of a function; its reason becomes a remark."""


@frozen(eq=False)
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
    axes = ((a, b, axis) for a, b in pairs if a.dtype in _INTEGERS for axis in range(a.ndim))
    return any(a.shape[axis] > 1 and _differ(a, axis) > _differ(b, axis) for a, b, axis in axes)


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


Trial: TypeAlias = Callable[[Point], Iterator[str]]


def writes(at: Point) -> Iterator[str]:
    """Writes into g, an input, or what forward saved."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        # Those of other dtypes are workspaces of kernels.
        saved.extend([tensor] * tensor.is_floating_point())
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run = at.f.run()
    copies, g = list(map(copied, saved)), [each.clone() for each in at.g]
    if names := _changed(run):
        yield f"forward writes into {names}"
        return
    try:
        run.backward(g)
    except GradientError:  # told by others
        return
    what = ""
    if not all(map(_same, g, at.g)):
        what = "g, which other backward passes may read"
    elif names := _changed(run):
        what = names
    elif shapes := [tuple(a.shape) for a, b in zip(saved, copies, strict=True) if not _same(a, b)]:
        what = f"a saved tensor of shape {shapes[0]}"
    if what:
        yield f"backward writes into {what}{at.f.line_of_write}"


def _changed(run: Run) -> str:
    f = run.f
    return ", ".join(f.names[i] for i in f.which if not _same(run.inputs[i], f.inputs[i]))


def _same(a: Any, b: Any) -> bool:  # Any: tensors
    return torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def memory(at: Point) -> Iterator[str]:
    """New memory holds nan."""

    def shows(given: Tensor, expected: Tensor, size: float) -> bool:
        return bool((expected.isfinite() & ~given.isfinite()).any())

    hint = "is a buffer read, or returned, where it was not written?"
    with nan_in_new_memory():
        told = [*at.told("where new memory holds nan", hint, differ=shows)]
    yield from told


@contextmanager
def nan_in_new_memory() -> Iterator[None]:
    """Let torch fill new memory with nan, in C++ as well; and let numpy."""

    def of_nan(empty: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
        def filled(*args: object, **options: object) -> np.ndarray:
            array = empty(*args, **options)
            if array.dtype.kind in "fc":
                array.fill(np.nan)
            return array

        return filled

    before = torch.are_deterministic_algorithms_enabled()
    is_lax = torch.is_deterministic_algorithms_warn_only_enabled()
    with ExitStack() as stack:
        stack.callback(torch.use_deterministic_algorithms, before, warn_only=is_lax)
        torch.use_deterministic_algorithms(True, warn_only=True)
        settings: Any = torch.utils.deterministic  # Any: its one attribute has no type
        name = "fill_uninitialized_memory"
        stack.callback(setattr, settings, name, getattr(settings, name))
        setattr(settings, name, True)
        for name in ("empty", "empty_like"):
            stack.enter_context(mock.patch.object(np, name, of_nan(getattr(np, name))))
        yield


def again(at: Point) -> Iterator[str]:
    """A second backward pass of one graph."""
    run, hint = at.f.run(), "does it write into what it reads, or add to what it returned?"
    first = evolve(at, y=run.y, grads=run.gradients(at.g))
    for told in first.told("when backward runs again", hint, run):
        if "modified by an inplace operation" in told:
            look = at.f.line_of_write
            yield f"backward writes into what was saved, and cannot run again{look}"
        elif "second time" not in told:  # its graph is freed
            yield told


def runs(at: Point) -> Iterator[str]:
    """Further runs, of the same inputs."""
    hint = "is it a race, or does something stay from run to run?"
    for _ in range(2):
        yield from at.told("in another run of the same", hint)


def calls(at: Point) -> Iterator[str]:
    """Another call, of other numbers, between forward and backward."""
    run = at.f.run()
    try:
        noisy(at.f, at.key).run().gradients(at.g)
    except (RefusedError, GradientError):  # other numbers may be outside of its domain
        return
    yield from at.told("after another call", "does it read what forward kept outside of ctx?", run)


def layouts_of_g(at: Point) -> Iterator[str]:
    """A g whose numbers do not lie one after the other."""
    for how, layout in LAYOUTS.items():
        yield from evolve(at, g=list(map(layout, at.g))).told(f"where g is {how}")
    wide = [each.flatten()[:1].sum().expand(each.shape) for each in at.g]
    grads = at.f.run().gradients([each.contiguous() for each in wide])
    yield from evolve(at, g=wide, grads=grads).told("where g is expanded, as that of sum() is")


def layouts_of_inputs(at: Point) -> Iterator[str]:
    """Inputs whose numbers do not lie one after the other."""
    if any(map(differs, at.f.run(seed=1).y, at.y)):
        raise NotTriedError("it draws, and draws depend on the layout")
    for how, layout in LAYOUTS.items():
        for i, value in enumerate(at.f.inputs[: at.f.of_caller]):
            if isinstance(value, Tensor) and value.ndim:
                f = at.f.at((*at.f.inputs[:i], layout(value), *at.f.inputs[i + 1 :]))
                yield from evolve(at, f=f).told(f"where {at.f.names[i]} is {how}")


def alone(at: Point) -> Iterator[str]:
    """Each input alone requires grad."""
    if len(at.f.which) < 2:
        raise NotTriedError
    for i, grad in zip(at.f.which, at.grads, strict=True):
        of_one = evolve(at, f=evolve(at.f, which=(i,)), grads=[grad])
        yield from of_one.told(f"where {at.f.names[i]} alone requires grad")


def outputs(at: Point) -> Iterator[str]:
    """Each output alone gets a g."""
    if len(at.g) < 2:
        raise NotTriedError
    for n, output in enumerate(at.f.outputs or ()):
        zeros = [g if k == n else torch.zeros_like(g) for k, g in enumerate(at.g)]
        grads, f = at.f.run().gradients(zeros), evolve(at.f, outputs=(output,))
        of_one = evolve(at, f=f, y=at.y[n : n + 1], g=at.g[n : n + 1], grads=grads)
        yield from of_one.told("where one output alone gets a g")


FIRST: Final[dict[str, Trial]] = {
    "nothing written into": writes,
    "new memory of nan": memory,
    "a second backward": again,
    "further runs": runs,
    "a call between": calls,
}
# If one of these is wrong, runs cannot be compared.
SAME: Final = ("new memory of nan", "a second backward", "further runs")
TRIALS: Final[dict[str, Trial]] = {
    "strided, transposed and expanded g": layouts_of_g,
    "strided and transposed inputs": layouts_of_inputs,
    "each input alone": alone,
    "each output alone": outputs,
}
