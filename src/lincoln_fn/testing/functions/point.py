"""A function where it is called, and when two of its results differ."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, Run, gradient_of, size_of
from lincoln_fn.testing.functions.value import Judge

Gradients: TypeAlias = list[Tensor]
_INVALID: Final = re.compile(
    r"an invalid gradient at index (\d+) - got \[(.*?)\] but expected shape .*? \[(.*?)\]"
)


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
        except Exception as error:
            yield f"{raised(self.f, error)}, {where}{self.also}"
            return
        # Where terms cancel, as in a norm's dx, the error is that of the terms.
        size = max(size_of(t[t.isfinite()]) for t in (*self.grads, *self.g))
        pairs = enumerate(zip(given, expected or self.grads, strict=True))
        wrong = [n for n, (a, b) in pairs if differs(a, b, size)]
        if wrong:
            leaves = " and ".join(self.f.leaves[n] for n in wrong)
            are = "are" if len(wrong) > 1 else "is"
            look = self.f.look(self.f.which[wrong[0]])
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


def raised(f: Function, error: Exception) -> str:
    """Say what backward raised; of a gradient of another shape, which."""
    if isinstance(error, GradientError):
        return str(error)
    told = str(error).strip().partition("\n")[0].rstrip(".")
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
