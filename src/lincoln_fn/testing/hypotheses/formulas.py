"""Formulas that are recognised by their values: softmax, log-softmax and normalisations.

Code may write a softmax or a norm in many ways. What it computes is seen from the tensors of
forward: v is the softmax of u if its values are. Then the gradient of u is known as a formula in u,
v and the gradient d of v, and so are the mistakes in this formula.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from itertools import combinations
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone
from lincoln_fn.testing.tape import Tape

Axes: TypeAlias = tuple[int, ...]
MOST_TENSORS = 80


@attrs.frozen(eq=False)
class Instance:
    """One use of a formula in forward: v = formula(u), along axes.

    Args:
        u: its input.
        v: its output.
        d: the gradient of v.
        axes: along which it sums.
        scale: what multiplies the formula's bracket, such as 1/std.
        g: the gradient before the factor of v that follows, for norms with a weight; else d.
        keepdim: whether sums keep their axes.
    """

    u: Tensor
    v: Tensor
    d: Tensor
    axes: Axes
    scale: Tensor
    g: Tensor
    keepdim: bool = True

    def sum(self, of: Tensor) -> Tensor:
        """Sum along the axes."""
        return of.sum(self.axes, keepdim=self.keepdim)

    def mean(self, of: Tensor) -> Tensor:
        """Average along the axes."""
        return of.mean(self.axes, keepdim=self.keepdim)


Recognise: TypeAlias = Callable[[Tensor, Tensor, Axes], Tensor | None]
# A look at v alone, which is quick.
MayBe: TypeAlias = Callable[[Tensor, Axes], bool]
Formula: TypeAlias = Callable[[Instance], Tensor]


def formula(
    name: str, sentence: str, recognise: tuple[MayBe, Recognise], right: Formula, wrong: Formula
) -> Hypothesis:
    """Make the hypothesis of a mistake in a formula.

    Args:
        name: a few words.
        sentence: what is said of the gradient.
        recognise: (v, axes) -> whether v may be the formula's output; and (u, v, axes) -> the
            scale, if v is the formula of u; else None.
        right: the gradient of u.
        wrong: the mistaken one.

    Returns:
        The hypothesis.
    """

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        for tape, u, instance in _instances(evidence, recognise):
            guess = wrong(instance)
            if guess.shape != u.shape or not guess.isfinite().all():
                continue
            delta = guess - right(instance)
            found = tape.flow([*tape.outputs, u], [*tape.cotangents, delta], tape.arrays)
            yield Guess([*found])
        for i, instance in _whole(evidence, recognise):
            yield alone(evidence, i, wrong(instance))

    return Hypothesis(name, sentence, candidates)


def _instances(
    evidence: Evidence, recognise: tuple[MayBe, Recognise]
) -> Iterator[tuple[Tape, Tensor, Instance]]:
    """Find the formula in forward."""
    found = evidence.remembered.get(recognise)
    if found is None:
        found = evidence.remembered[recognise] = list(_search(evidence, recognise))
    yield from found


def _search(
    evidence: Evidence, recognise: tuple[MayBe, Recognise]
) -> Iterator[tuple[Tape, Tensor, Instance]]:
    may_be, of = recognise
    for tape in evidence.tapes[:1]:
        made = [out for call in tape.calls for out in call.outputs]
        tensors = [*tape.arrays, *made][:MOST_TENSORS]
        for n, v in enumerate(tensors):
            possible = [axes for axes in _subsets(v.ndim) if may_be(v.detach(), axes)]
            for axes in possible:
                for u in tensors[:n]:
                    if u.shape != v.shape:
                        continue
                    scale = of(u.detach(), v.detach(), axes)
                    if scale is None:
                        continue
                    (d,) = tape.flow(tape.outputs, tape.cotangents, [v])
                    same = [g for g in evidence.g if g.shape == v.shape]
                    instance = Instance(
                        u.detach(), v.detach(), d, axes, scale, same[0] if same else d
                    )
                    yield tape, u, instance
                    break  # a later u, such as x - mean, is a step on the way


def _whole(
    evidence: Evidence, recognise: tuple[MayBe, Recognise]
) -> Iterator[tuple[int, Instance]]:
    """Recognise a forward that autograd cannot follow by its input and output."""
    if evidence.is_followed or len(evidence.y) != 1:
        return
    may_be, of = recognise
    y, g = evidence.y[0], evidence.g[0]
    for axes in _subsets(y.ndim) if y.is_floating_point() else ():
        if may_be(y, axes):
            for i, u in enumerate(evidence.sample.arrays):
                scale = of(u, y, axes) if u.shape == y.shape else None
                if scale is not None:
                    yield i, Instance(u, y, g, axes, scale, g)


def _subsets(ndim: int) -> Sequence[Axes]:
    return [axes for n in range(1, ndim + 1) for axes in combinations(range(ndim), n)]


def others(i: Instance, n: int) -> Axes:
    """Return the n-th set of axes that is not the right one."""
    sets = [axes for axes in _subsets(i.v.ndim) if axes != i.axes]
    return sets[n] if n < len(sets) else i.axes


def on_other_axes(right: Formula, n: int) -> Formula:
    """Make the right formula with its sums over other axes."""
    return lambda i: right(attrs.evolve(i, axes=others(i, n)))


def without_keepdim(right: Formula) -> Formula:
    """Make the right formula with sums that lose their axes, and so broadcast along others."""

    def wrong(i: Instance) -> Tensor:
        lost = i.v.sum(i.axes).shape
        fits = i.v.shape[i.v.ndim - len(lost) :] == lost
        return right(attrs.evolve(i, keepdim=False)) if fits else torch.full_like(i.v, torch.nan)

    return wrong


def same(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same values, up to rounding."""
    return torch.allclose(a, b, rtol=1e-9, atol=1e-12)
