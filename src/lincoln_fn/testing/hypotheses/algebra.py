"""An algebra of mistakes: a right formula is a sum of terms, and operators make the wrong ones.

    dx = 1/std (d - mean(d) - x_hat mean(d x_hat))

has three terms. Each is a product of factors, and some factors are inside of a mean. An operator
drops a term, flips its sign, drops a factor, squares it or takes another in its place, sums where
it should average, or does so along other axes. It also says in a sentence what it did, and where.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial, reduce
from itertools import chain, combinations
from operator import mul
from typing import Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis

Axes: TypeAlias = tuple[int, ...]


@attrs.frozen(eq=False)
class Use:
    """One use of a formula in forward: v = formula(u), along axes."""

    u: Tensor
    v: Tensor
    # The gradient of v.
    d: Tensor
    axes: Axes
    # What multiplies the formula, such as 1/std.
    scale: Tensor
    # The gradient before the weight of a norm, which multiplies v; else d.
    g: Tensor
    # From the error in the gradient of u, the wrong gradients of all arrays.
    gradients: Callable[[Tensor], list[Tensor | None]]

    @property
    def count(self) -> int:
        """How many numbers a mean divides by."""
        return math.prod(self.v.shape[axis] for axis in self.axes)


Value: TypeAlias = Callable[[Use], Tensor]


@attrs.frozen(eq=False)
class Factor:
    """A factor, with what is mistaken for it: (name, sentence, value)."""

    # "" if no mistake drops it.
    name: str
    value: Value
    mistaken: tuple[tuple[str, str, Value], ...] = ()


Factors: TypeAlias = tuple[Factor, ...]
# A term by its number, and whether it is before or in its sum.
Place: TypeAlias = tuple[int, str]


@attrs.frozen(eq=False)
class Term:
    """sign * outer factors * sum or mean of (inner factors), or their product if `by` is ""."""

    name: str
    outer: Factors
    inner: Factors = ()
    by: Literal["", "sum", "mean"] = ""
    sign: float = 1
    axes: Axes | None = None
    keepdim: bool = True

    def evaluate(self, use: Use) -> Tensor:
        """Compute the term."""
        outer, inner = (
            reduce(mul, (factor.value(use) for factor in factors), torch.ones_like(use.d))
            for factors in (self.outer, self.inner)
        )
        if self.by:
            axes = use.axes if self.axes is None else self.axes
            inner = getattr(inner, self.by)(axes, keepdim=self.keepdim)
        return self.sign * outer * inner


Terms: TypeAlias = tuple[Term, ...]
# For a use, the wrong formulas that a mistake may stand for.
Variants: TypeAlias = Callable[[Use], Iterable[Terms]]
# A name, a sentence and what is wrong; one without a name counts if a formula gives it a name.
Mistake: TypeAlias = tuple[str, str, Variants]


@attrs.frozen(eq=False)
class Formula:
    """A right gradient, and how forward shows that it is the one."""

    terms: Terms
    uses: Callable[[Evidence], Sequence[Use]]
    # By the sentence of an operator, a better name and sentence.
    words: Mapping[str, tuple[str, str]]
    # Mistakes that no operator makes.
    further: tuple[tuple[str, str, Value], ...] = ()

    def hypotheses(self) -> list[Hypothesis]:
        """Make all mistakes in the formula, those that have words of their own first."""
        made: list[Mistake] = [
            *make_mistakes(self.terms),
            *(
                (name, said, _give((Term("", (Factor("", value),)),)))
                for name, said, value in self.further
            ),
        ]
        made.sort(key=lambda mistake: mistake[1] not in self.words)
        return [
            Hypothesis(
                *self.words.get(said, (name, said)), partial(self._guess, wrong), Cost.FORMULA
            )
            for name, said, wrong in made
            if name or said in self.words
        ]

    def _guess(self, wrong: Variants, evidence: Evidence) -> Iterator[Guess]:
        for use in self.uses(evidence):
            right = evaluate(self.terms, use)
            for terms in wrong(use):
                try:
                    guess = evaluate(terms, use)
                except RuntimeError:  # a sum that lost its axes does not broadcast
                    continue
                if guess.shape == use.u.shape and bool(guess.isfinite().all()):
                    yield Guess(use.gradients(guess - right))


def evaluate(terms: Terms, use: Use) -> Tensor:
    """Compute a formula."""
    return sum((term.evaluate(use) for term in terms[1:]), terms[0].evaluate(use))


def list_subsets(of: Sequence[int], most: int | None = None) -> list[tuple[int, ...]]:
    """List the subsets of some numbers, without the empty one, the small ones first."""
    sizes = range(1, (len(of) if most is None else most) + 1)
    return [some for size in sizes for some in combinations(of, size)]


def make_mistakes(terms: Terms) -> Iterator[Mistake]:
    """Apply all operators to a formula."""
    yield from _mistake_terms(terms)
    yield from _mistake_factors(terms)
    yield from _mistake_sums(terms)


def _give(terms: Terms) -> Variants:
    return lambda use: (terms,)


def _change(terms: Terms, some: Iterable[int], change: Callable[[Term], Term]) -> Terms:
    return tuple(change(term) if k in some else term for k, term in enumerate(terms))


def _name(terms: Terms, some: Iterable[int]) -> str:
    return " and ".join(terms[k].name for k in some)


def _scale(k: float, term: Term) -> Term:
    return attrs.evolve(term, sign=k * term.sign)


def _mistake_terms(terms: Terms) -> Iterator[Mistake]:
    """Drop terms, or flip their signs."""
    for some in list_subsets(range(len(terms)), len(terms) - 1):
        kept = tuple(term for k, term in enumerate(terms) if k not in some)
        yield "term missing", f"misses {_name(terms, some)}", _give(kept)
    for some in list_subsets(range(1, len(terms))):
        flipped = _change(terms, some, partial(_scale, -1.0))
        yield "sign", f"has the wrong sign before {_name(terms, some)}", _give(flipped)


def _mistake_factors(terms: Terms) -> Iterator[Mistake]:
    """Drop a factor, square it, divide by it, or take another in its place."""
    for factor in dict.fromkeys(f for term in terms for f in (*term.outer, *term.inner)):
        changes: list[tuple[str, str, Factors]] = [
            (name, said, (Factor(factor.name, of),)) for name, said, of in factor.mistaken
        ]
        if factor.name:
            inverse = Factor(factor.name, partial(_invert, factor))
            changes += [
                (f"{factor.name} missing", f"lacks the factor {factor.name}", ()),
                (f"{factor.name} twice", f"has the factor {factor.name} twice", (factor, factor)),
            ]
            said = f"divides by the factor {factor.name}"
            yield "divided", said, _give(_replace(terms, factor, (inverse,)))
        for name, said, becomes in changes:
            for where, places in _list_places(terms, factor):
                yield name, f"{said}{where}", _give(_replace(terms, factor, becomes, places))


def _invert(factor: Factor, use: Use) -> Tensor:
    return 1 / factor.value(use)


def _replace(
    terms: Terms, factor: Factor, becomes: Factors, places: set[Place] | None = None
) -> Terms:
    """Put others in the place of a factor: everywhere, or at some places."""

    def changed(k: int, part: str, factors: Factors) -> Factors:
        is_here = places is None or (k, part) in places
        return tuple(chain(*(becomes if is_here and f is factor else (f,) for f in factors)))

    return tuple(
        attrs.evolve(
            term, outer=changed(k, "outer", term.outer), inner=changed(k, "inner", term.inner)
        )
        for k, term in enumerate(terms)
    )


def _list_places(terms: Terms, factor: Factor) -> Iterator[tuple[str, set[Place]]]:
    """List the sets of places where a factor may be mistaken: everywhere, or in one part."""
    outer = {(k, "outer") for k, term in enumerate(terms) if factor in term.outer}
    inner = {(k, "inner") for k, term in enumerate(terms) if factor in term.inner}
    kind = next((term.by for term in terms if term.by), "sum")
    scopes: list[tuple[str, set[Place]]] = [
        ("", outer | inner),
        (f", outside of its {kind}s", outer),
        (f", in its {kind}s", inner),
    ]
    for k, term in enumerate(terms):
        here = {(k, "outer"), (k, "inner")}
        scopes.append((f", in {term.name}", here & (outer | inner)))
    seen: list[set[Place]] = [set()]
    for where, places in scopes:
        if places not in seen:
            seen.append(places)
            yield where, places


def _mistake_sums(terms: Terms) -> Iterator[Mistake]:
    """Average for a sum, leave it out, or do it along other axes; in all terms or in one."""
    summed = [k for k, term in enumerate(terms) if term.by]
    for some in dict.fromkeys([(*summed,), *((k,) for k in summed)]) if summed else ():
        by = terms[some[0]].by
        what = _name(terms, some) if len(some) == 1 else f"its {by}s"
        verb = "average" if by == "mean" else "sum"
        changes: list[tuple[str, str, Callable[[Term], Term]]] = [
            ("not summed", f"does not {verb} in {what}", partial(attrs.evolve, by="")),
            ("keepdim", f"lacks keepdim=True in {what}", partial(attrs.evolve, keepdim=False)),
            ("", f"has {what} twice as large as it should be", partial(_scale, 2.0)),
            ("", f"has {what} half as large as it should be", partial(_scale, 0.5)),
        ]
        if by == "mean":
            name, said, other = "1/N missing", f"lacks the factor 1/N of {what}", "sum"
            corrected = f"divides {what} by N - 1, where forward divides by N"
            yield "N - 1 for N", corrected, partial(_correct_count, terms, some)
        else:
            name, said, other = "averaged", f"averages in {what}, where it should sum", "mean"
        changes.append((name, said, partial(attrs.evolve, by=other)))
        for name, said, change in changes:
            yield name, said, _give(_change(terms, some, change))
        said = f"{verb}s over the wrong axes in {what}"
        yield "wrong axes", said, partial(_turn_axes, terms, some)


def _turn_axes(terms: Terms, some: Iterable[int], use: Use) -> Iterator[Terms]:
    for axes in list_subsets(range(use.v.ndim)):
        if axes != use.axes:
            yield _change(terms, some, partial(attrs.evolve, axes=axes))


def _correct_count(terms: Terms, some: Iterable[int], use: Use) -> Iterator[Terms]:
    yield _change(terms, some, partial(_scale, use.count / max(1, use.count - 1)))
