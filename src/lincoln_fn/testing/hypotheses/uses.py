"""Where forward uses a formula, seen from the values of its tensors.

Code may write a softmax or a norm in many ways. v is the softmax of u if its values are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.algebra import Axes, Use, list_subsets
from lincoln_fn.testing.hypotheses.hypothesis import guess_alone
from lincoln_fn.testing.tape import Tape

# A look at v alone, which is quick.
MayBe: TypeAlias = Callable[[Tensor, Axes], bool]
# For u, v and axes the scale, if v is the formula of u.
Recognise: TypeAlias = Callable[[Tensor, Tensor, Axes], Tensor | None]
# For u and its gradient v, d and the scale, if that is the formula of u.
RecogniseGradient: TypeAlias = Callable[[Tensor, Tensor], "tuple[Tensor, Tensor, Tensor] | None"]
MOST_TENSORS = 80


def find_uses(may_be: MayBe, recognise: Recognise) -> Callable[[Evidence], list[Use]]:
    """Make the search for a formula in forward, which is done once."""

    def found(evidence: Evidence) -> list[Use]:
        known = evidence.remembered.get(recognise)
        if known is None:
            known = [
                *_search(evidence, may_be, recognise),
                *_search_whole(evidence, may_be, recognise),
            ]
            evidence.remembered[recognise] = known
        return known

    return found


def _search(evidence: Evidence, may_be: MayBe, recognise: Recognise) -> Iterator[Use]:
    for tape in evidence.tapes[:1]:
        made = [out for call in tape.calls for out in call.outputs]
        tensors = [*tape.arrays, *made][:MOST_TENSORS]
        for n, v in enumerate(tensors):
            for axes in list_subsets(range(v.ndim)):
                if not may_be(v.detach(), axes):
                    continue
                for u in tensors[:n]:
                    if u.shape != v.shape:
                        continue
                    scale = recognise(u.detach(), v.detach(), axes)
                    if scale is None:
                        continue
                    (d,) = tape.flow(tape.outputs, tape.cotangents, [v])
                    g = next((g for g in evidence.g if g.shape == v.shape), d)
                    gradients = partial(_add, tape, u)
                    yield Use(u.detach(), v.detach(), d, axes, scale, g, gradients)
                    break  # a later u, such as x - mean, is a step on the way


def _add(tape: Tape, u: Tensor, error: Tensor) -> list[Tensor | None]:
    return [*tape.gradients_with([u], [error])]


def _search_whole(evidence: Evidence, may_be: MayBe, recognise: Recognise) -> Iterator[Use]:
    """Recognise a forward that autograd cannot follow by its input and output."""
    if evidence.is_followed or len(evidence.y) != 1:
        return
    y, g = evidence.y[0], evidence.g[0]
    for axes in list_subsets(range(y.ndim)):
        if may_be(y, axes):
            for i, u in enumerate(evidence.sample.arrays):
                scale = recognise(u, y, axes) if u.shape == y.shape else None
                if scale is not None:
                    yield Use(u, y, g, axes, scale, g, partial(_add_alone, evidence, i))


def _add_alone(evidence: Evidence, i: int, error: Tensor) -> list[Tensor | None]:
    return guess_alone(evidence, i, evidence.expected[i] + error).gradients


def _search_gradients(evidence: Evidence, recognise: RecogniseGradient) -> Iterator[Use]:
    for i, (u, right) in enumerate(zip(evidence.sample.arrays, evidence.expected, strict=True)):
        if parts := recognise(u, right):
            v, d, scale = parts
            yield Use(u, v, d, (1,), scale, d, partial(_add_alone, evidence, i))
    for tape in evidence.tapes[:1]:
        made = [out for call in tape.calls for out in call.outputs][:MOST_TENSORS]
        for u in made:
            if u.ndim != 2 or not u.requires_grad:
                continue
            (right,) = tape.flow(tape.outputs, tape.cotangents, [u])
            if parts := recognise(u.detach(), right):
                v, d, scale = parts
                yield Use(u.detach(), v, d, (1,), scale, d, partial(_add, tape, u))
                return


def find_uses_of_gradient(recognise: RecogniseGradient) -> Callable[[Evidence], list[Use]]:
    """Make the search for a formula whose parts v, d and scale an array and its gradient show."""

    def found(evidence: Evidence) -> list[Use]:
        known = evidence.remembered.get(recognise)
        if known is None:
            known = evidence.remembered[recognise] = [*_search_gradients(evidence, recognise)]
        return known

    return found


def are_same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same values, up to rounding."""
    return torch.allclose(a, b, rtol=1e-9, atol=1e-12)
