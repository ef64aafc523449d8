"""A function where it is called, what it gives there, and whether another call gives the same."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
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
