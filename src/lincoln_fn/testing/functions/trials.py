"""What is tried beside the value: each trial runs the function in another way, and compares.

A trial is a function of a point. It yields what differs, in sentences; nothing differs of a right
function. A forward that refuses what is tried, by an error, is not told; a backward is.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from typing import Any, Final, TypeAlias
from unittest import mock

import attrs
import numpy as np
import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, RefusedError, Run, copied
from lincoln_fn.testing.functions.point import (
    LAYOUTS,
    Gradients,
    NotTriedError,
    Point,
    differs,
    noisy,
)  # fmt: skip
from lincoln_fn.testing.functions.sentences import line_of_write

Trial: TypeAlias = Callable[[Point], Iterator[str]]


def _anew(f: Function, g: Sequence[Tensor]) -> Gradients:
    return f.run().gradients(g)


def layouts_of_g(at: Point) -> Iterator[str]:
    """A g whose numbers do not lie one after the other."""
    for how, layout in LAYOUTS.items():
        g = [layout(each) for each in at.g]
        yield from at.told(f"where g is {how}", partial(_anew, at.f, g))
    wide = [each.flatten()[:1].sum().expand(each.shape) for each in at.g]
    full = [each.contiguous() for each in wide]
    where = "where g is expanded, as that of sum() is"
    yield from at.told(where, partial(_anew, at.f, wide), _anew(at.f, full))


def layouts_of_inputs(at: Point) -> Iterator[str]:
    """Inputs whose numbers do not lie one after the other."""
    if any(map(differs, at.f.run(seed=1).y, at.run.y)):
        raise NotTriedError("it draws, and draws depend on the layout")
    for how, layout in LAYOUTS.items():
        for i, value in enumerate(at.f.inputs[: at.f.of_caller]):
            if isinstance(value, Tensor) and value.ndim:
                inputs = (*at.f.inputs[:i], layout(value), *at.f.inputs[i + 1 :])
                where = f"where {at.f.names[i]} is {how}"
                yield from _likewise(at, where, inputs)


def _likewise(
    at: Point, where: str, inputs: Sequence[object] | None = None, hint: str = ""
) -> Iterator[str]:
    """Run it once more: y and the gradients have to be the same."""
    try:
        run = at.f.run(inputs)
    except RefusedError:
        return
    if any(map(differs, run.y, at.run.y)):
        yield f"y is wrong {where}{at.also}{hint and f': {hint}'}"
    else:
        yield from at.told(where, lambda: run.gradients(at.g), hint=hint)


def writes(at: Point) -> Iterator[str]:
    """Writes into g, an input, or what forward saved."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        # Those of other dtypes are workspaces of kernels.
        if tensor.is_floating_point():
            saved.append(tensor)
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run = at.f.run()
    copies = list(map(copied, saved))
    if names := _changed(run):
        yield f"forward writes into {names}"
        return
    g = [each.clone() for each in at.g]
    try:
        run.backward(g)
    except GradientError:  # told by others
        return
    look = line_of_write(at.f.backward)
    if not all(map(_same, g, at.g)):
        yield f"backward writes into g, which other backward passes may read{look}"
    elif names := _changed(run):
        yield f"backward writes into {names}{look}"
    elif shapes := [tuple(a.shape) for a, b in zip(saved, copies, strict=True) if not _same(a, b)]:
        yield f"backward writes into a saved tensor of shape {shapes[0]}{look}"


def _changed(run: Run) -> str:
    f = run.f
    return ", ".join(f.names[i] for i in f.which if not _same(run.inputs[i], f.inputs[i]))


def _same(a: object, b: object) -> bool:
    return not isinstance(a, Tensor) or (
        isinstance(b, Tensor) and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    )


def again(at: Point) -> Iterator[str]:
    """A second backward pass of one graph."""
    run = at.f.run()
    run.gradients(at.g)
    try:
        second = run.gradients(at.g)
    except GradientError as error:
        if "modified by an inplace operation" in str(error):
            look = line_of_write(at.f.backward)
            yield f"backward writes into what was saved, and cannot run again{look}"
        elif "second time" not in str(error):
            yield f"{error}, when it runs again"
        return
    hint = "does it write into what it reads, or add to what it returned?"
    yield from at.told("when backward runs again", lambda: second, hint=hint)


def runs(at: Point) -> Iterator[str]:
    """Further runs, of the same inputs."""
    for _ in range(2):
        hint = "is it a race, or does something stay from run to run?"
        yield from _likewise(at, "in another run of the same", hint=hint)


def memory(at: Point) -> Iterator[str]:
    """New memory holds nan."""
    hint = "is a buffer read, or returned, where it was not written?"
    with nan_in_new_memory():
        with suppress(RefusedError, GradientError):  # which `_likewise` tells
            run = at.f.run()
            found = (*run.y, *run.gradients(at.g))
            pairs = zip(found, (*at.run.y, *at.grads), strict=True)
            if all(bool((a.isfinite() | ~b.isfinite()).all()) for a, b in pairs):
                return
        told = [*_likewise(at, "where new memory holds nan", hint=hint)]
    yield from told


def _of_nan(empty: Callable[..., np.ndarray]) -> Callable[..., np.ndarray]:
    def filled(*args: object, **options: object) -> np.ndarray:
        array = empty(*args, **options)
        if array.dtype.kind in "fc":
            array.fill(np.nan)
        return array

    return filled


@contextmanager
def nan_in_new_memory() -> Iterator[None]:
    """Let torch fill new memory with nan, in C++ as well; and let numpy."""
    settings: Any = torch.utils.deterministic  # Any: its one attribute has no type
    is_filled, settings.fill_uninitialized_memory = settings.fill_uninitialized_memory, True
    before = torch.are_deterministic_algorithms_enabled()
    is_lax = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    made, made_like = _of_nan(np.empty), _of_nan(np.empty_like)
    try:
        with mock.patch.object(np, "empty", made), mock.patch.object(np, "empty_like", made_like):
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=is_lax)
        settings.fill_uninitialized_memory = is_filled


def calls(at: Point) -> Iterator[str]:
    """Another call, of other numbers, between forward and backward."""
    run, other = at.f.run(), noisy(at.f, at.key)
    try:
        between = at.f.run(other)
        between.gradients(at.g)
    except (RefusedError, GradientError):  # other numbers may be outside of its domain
        return
    hint = "does it read what forward kept outside of ctx?"
    yield from at.told("after another call", lambda: run.gradients(at.g), hint=hint)


def alone(at: Point) -> Iterator[str]:
    """Each input alone requires grad."""
    if len(at.f.which) < 2:
        raise NotTriedError
    for n, i in enumerate(at.f.which):
        of_one = attrs.evolve(at, f=attrs.evolve(at.f, which=(i,)), grads=[at.grads[n]])
        where = f"where {at.f.names[i]} alone requires grad"
        yield from of_one.told(where, partial(_anew, of_one.f, at.g))


def outputs(at: Point) -> Iterator[str]:
    """Each output alone gets a g; the gradients add up."""
    if len(at.g) < 2:
        raise NotTriedError

    def added() -> Gradients:
        run, total = at.f.run(), [torch.zeros_like(grad) for grad in at.grads]
        for y, g in zip(run.y, at.g, strict=True):
            found = attrs.evolve(run, y=(y,)).gradients((g,))
            total = [a + b for a, b in zip(total, found, strict=True)]
        return total

    yield from at.told("where one output alone gets a g", added)


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
