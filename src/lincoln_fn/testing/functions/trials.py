"""What is tried beside the value: each trial runs the function in another way, and compares.

A trial is a function of a point. It yields what differs, in sentences; nothing differs of a right
function. A forward that refuses what is tried, by an error, is not told; a backward is.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, version_of
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, Run, copied, gradient_of
from lincoln_fn.testing.functions.inputs import LAYOUTS, noisy
from lincoln_fn.testing.functions.value import Judge

Gradients: TypeAlias = list[Tensor]
_INVALID: Final = re.compile(
    r"an invalid gradient at index (\d+) - got \[(.*?)\] but expected shape compatible with \[(.*?)\]"
)


class NotTriedError(Exception):
    """Raised if a trial would say nothing of a function."""


@attrs.frozen(eq=False)
class Point:
    """A function where it is called: a run, a g, and the gradients."""

    f: Function
    judge: Judge
    key: Key
    run: Run
    g: tuple[Tensor, ...]
    grads: Gradients

    def told(
        self, where: str, compute: Callable[[], Gradients], expected: Gradients | None = None
    ) -> Iterator[str]:
        """Compare gradients that are computed in another way; with an error, say what is raised."""
        try:
            given = compute()
        except Exception as error:
            yield f"{raised(self.f, error)} {where}"
            return
        expected = expected or self.grads
        # Where terms cancel, as in a norm's dx, the error is that of the terms.
        size = max(map(size_of, (*self.grads, *self.g)))
        pairs = enumerate(zip(given, expected, strict=True))
        wrong = [n for n, (a, b) in pairs if differs(a, b, size)]
        if wrong:
            leaves = " and ".join(self.f.leaves[n] for n in wrong)
            are = "are" if len(wrong) > 1 else "is"
            yield f"{leaves} {are} wrong {where}{self.f.look(self.f.which[wrong[0]])}"


Trial: TypeAlias = Callable[[Point], Iterator[str]]


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


def size_of(t: Tensor) -> float:
    """Return the largest of a tensor's finite values."""
    return float(t.detach().nan_to_num(0.0, 0.0, 0.0).abs().max()) if t.numel() else 0.0


def raised(f: Function, error: Exception) -> str:
    """Say what backward raised; of a gradient of another shape, which."""
    if isinstance(error, GradientError):
        return str(error)
    told = str(error).strip().partition("\n")[0]
    if (found := _INVALID.search(told)) and f.backward is not None:
        i, got, expected = int(found[1]), *map(_shape, found.groups()[1:])
        name = f.names[i] if i < len(f.names) else f"input {i}"
        return f"{gradient_of(name)} {shape_told(got, expected)}{f.look(i)}"
    return f"backward raised {type(error).__name__}: {told}"


def _shape(text: str) -> tuple[int, ...]:
    return tuple(map(int, re.findall(r"\d+", text)))


def shape_told(got: Sequence[int], expected: Sequence[int]) -> str:
    """Say how a gradient's shape differs from that of its input."""
    got, expected = tuple(got), tuple(expected)
    shapes = f"shape {got}, expected {expected}"
    more = len(got) - len(expected)
    aligned = (*(1,) * more, *expected)
    over = [axis for axis, (a, b) in enumerate(zip(got, aligned, strict=False)) if a != b]
    if more >= 0 and over and all(aligned[axis] == 1 for axis in over):
        return f"is not summed over {_axes(over)}, which its input has not: {shapes}"
    for axis in range(len(expected)):
        if got == (*expected[:axis], *expected[axis + 1 :]):
            return f"is summed over axis {axis}, which it should keep: {shapes}"
    return f"is transposed: {shapes}" if sorted(got) == sorted(expected) else f"has {shapes}"


def _axes(axes: Sequence[int]) -> str:
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


def layouts_of_g(at: Point) -> Iterator[str]:
    """A g whose numbers do not lie one after the other."""
    for how, layout in LAYOUTS.items():
        g = [layout(each) for each in at.g]
        yield from at.told(f"where g is {how}", lambda g=g: at.f.run().gradients(g))
    same = [each.flatten()[:1].sum() if each.numel() else each.sum() for each in at.g]
    full = [one.expand(each.shape).contiguous() for one, each in zip(same, at.g, strict=True)]
    wide = [one.expand(each.shape) for one, each in zip(same, at.g, strict=True)]
    where = "where g is expanded, as that of sum() is"
    yield from at.told(where, lambda: at.f.run().gradients(wide), at.f.run().gradients(full))


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


def _likewise(at: Point, where: str, inputs: Sequence[object] | None = None) -> Iterator[str]:
    """Run it once more: y and the gradients have to be the same."""
    try:
        run = at.f.run(inputs)
    except Exception:  # forward may refuse it
        return
    if any(map(differs, run.y, at.run.y)):
        yield f"y is wrong {where}"
    else:
        yield from at.told(where, lambda: run.gradients(at.g))


def writes(at: Point) -> Iterator[str]:
    """Writes into g, an input, or what forward saved."""
    saved: list[Tensor] = []

    def pack(tensor: Tensor) -> Tensor:
        saved.append(tensor)
        return tensor

    def changed() -> Iterator[str]:
        for i in at.f.which:
            if not _same(run.inputs[i], at.f.inputs[i]):
                yield at.f.names[i]

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        run = at.f.run()
    copies = list(map(copied, saved))
    if names := [*changed()]:
        yield f"forward writes into {', '.join(names)}"
        return
    g = [each.clone() for each in at.g]
    before = [version_of(each) for each in g]
    try:
        run.gradients(g)
    except Exception:  # told by others
        return
    look = at.f.line_of_write
    counts = [version_of(each) for each in g]
    if before != counts or not all(map(_same, g, at.g)):
        told = "which other backward passes may read"
        yield f"backward writes into g, {told}{look}"
    elif names := [*changed()]:
        yield f"backward writes into {', '.join(names)}{look}"
    elif shapes := [tuple(a.shape) for a, b in zip(saved, copies, strict=True) if not _same(a, b)]:
        yield f"backward writes into a saved tensor of shape {shapes[0]}{look}"


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
    except Exception as error:
        if "second time" not in str(error):
            yield f"{raised(at.f, error)} when it runs a second time"
        return
    where = "when backward runs a second time: does it write into what it reads, or add to it?"
    yield from at.told(where, lambda: second)


def runs(at: Point) -> Iterator[str]:
    """Further runs, of the same inputs."""
    for _ in range(2):
        yield from _likewise(at, "in another run of the same: is it a race, or memory kept?")


def memory(at: Point) -> Iterator[str]:
    """New memory holds nan."""
    with _nan_in_new_memory():
        yield from _likewise(at, "where new memory holds nan: is all of a buffer written?")


@contextmanager
def _nan_in_new_memory() -> Iterator[None]:
    # So torch.empty is filled, in C++ as well.
    before = torch.are_deterministic_algorithms_enabled()
    is_lax = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=is_lax)


def calls(at: Point) -> Iterator[str]:
    """Another call, of other numbers, between forward and backward."""
    run, other = at.f.run(), noisy(at.f, at.key)
    try:
        between = at.f.run(other)
        between.gradients(at.g)
    except Exception:  # other numbers may be outside of its domain
        return
    where = "after another call: is something kept outside of ctx?"
    yield from at.told(where, lambda: run.gradients(at.g))


def alone(at: Point) -> Iterator[str]:
    """Each input alone requires grad."""
    for n, i in enumerate(at.f.which):
        if len(at.f.which) > 1:
            of_one = attrs.evolve(at, f=attrs.evolve(at.f, which=(i,)), grads=[at.grads[n]])
            where = f"where {at.f.names[i]} alone requires grad"
            yield from of_one.told(where, lambda f=of_one.f: f.run().gradients(at.g))


def outputs(at: Point) -> Iterator[str]:
    """Each output alone gets a g; the gradients add up."""
    if len(at.g) < 2:
        return

    def added() -> Gradients:
        run, total = at.f.run(), [torch.zeros_like(grad) for grad in at.grads]
        for y, g in zip(run.y, at.g, strict=True):
            found = attrs.evolve(run, y=(y,)).gradients((g,))
            total = [a + b for a, b in zip(total, found, strict=True)]
        return total

    yield from at.told("where one output alone gets a g", added)


TRIALS: Final[dict[str, Trial]] = {
    "strided, transposed and expanded g": layouts_of_g,
    "strided and transposed inputs": layouts_of_inputs,
    "nothing written into": writes,
    "a second backward": again,
    "further runs": runs,
    "new memory of nan": memory,
    "a call between": calls,
    "each input alone": alone,
    "each output alone": outputs,
}
