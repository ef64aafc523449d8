"""A function where it is called, and when two of its results differ."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.functions.function import Function, Run, size_of
from lincoln_fn.testing.functions.value import Judge

Gradients: TypeAlias = list[Tensor]


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
