"""What relates a value of backward to the right gradient, in the order in which it is sought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from itertools import count, takewhile, tee
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing.align import Step
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence, Run
from lincoln_fn.testing.paths import Guess, guesses
from lincoln_fn.testing.point import NOT_LINEAR
from lincoln_fn.testing.relations import Relation, of_last_parts, of_two, of_uses_of_g, same
from lincoln_fn.testing.tape import Tape
from lincoln_fn.testing.terms import (
    CUT,
    FEWEST,
    MOST_PAIRED,
    Change,
    Hand,
    fits,
    list_terms,
    of_changes,
    of_sums,
)

# Of more positions than these, each is not looked at alone.
MOST_POSITIONS = 16
MOST_PARTS = 200
# Two values that differ by a smaller part differ by an eps.
SLIGHTLY = 0.2

# A name, a sentence, and the gradient that the mistake would give.
Guesses: TypeAlias = Iterable[tuple[str, str, Tensor]]


class Right:
    """The right gradient of a value, and what wrong ones are compared with.

    Args:
        tensor: the value on the tape; None if autograd does not follow it.
        guesses: the gradients that single mistakes would give.
    """

    def __init__(
        self, of: Evidence, right: Tensor, hand: Hand, tensor: Tensor | None, guesses: Guesses
    ) -> None:
        self.of, self.right, self.hand, self.tensor = of, right, hand, tensor
        (self._guesses,) = tee(guesses, 1)

    @cached_property
    def _cuts(self) -> list[Change]:
        self._guesses, every = tee(self._guesses)
        cuts = takewhile(lambda guess: guess[0] == CUT, every)
        return self._changes_of(cuts)

    def _changes_of(self, guesses: Guesses) -> list[Change]:
        return [
            Change(name, said, guess - self.right)
            for name, said, guess in guesses
            if not same(guess, self.right) and bool(guess.isfinite().all())
        ]

    @cached_property
    def _factors(self) -> list[Change]:
        """List the changes of one more factor, or one less, in a path alone and in all."""
        paths = [(f" in the path through {cut.said}", cut.value) for cut in self._cuts]
        found = []
        for name, value in self.hand:
            for kind, said, factor in (
                ("further factor", f"has the further factor {name}", value),
                ("factor missing", f"lacks the factor {name}", 1 / value),
                ("divided", f"is divided by {name}, where it should be multiplied", value**-2),
                ("multiplied", f"is multiplied by {name}, where it should be divided", value**2),
            ):
                if fits(value.shape, self.right.shape) and bool(factor.isfinite().all()):
                    where = paths if "factor" in kind else []
                    found += [
                        Change(kind, f"{said}{path}", change - change * factor)
                        for path, change in [*where, ("", -self.right)]
                    ]
        return found

    @cached_property
    def _mistakes(self) -> list[Change]:
        self._guesses, every = tee(self._guesses)
        return self._changes_of(guess for guess in every if guess[0] != CUT)

    @cached_property
    def _terms(self) -> list[Change]:
        return list_terms(self.right, self.of.gs, self.hand)

    def compared(self, given: Tensor, *, is_first: bool = True) -> Iterator[Relation]:
        """List what relates a gradient to it: two changes at once if it is the first mistake."""
        of, right, tensor = self.of, self.right, self.tensor
        yield from of_two(given, right, of.sizes)
        is_shape = given.shape == right.shape
        if tensor is not None and is_shape:
            yield from _of_g(of, given, right, tensor)
        if is_shape:
            yield from of_changes(given, right, self._cuts)
            yield from of_changes(given, right, self._factors)
            size = float(right.abs().max()) if right.numel() else 0.0
            self._guesses, every = tee(self._guesses)
            for name, said, guess in every:  # most are found before all are listed
                if name != CUT and same(given, guess, size) and not same(guess, right, size):
                    yield name, said
            yield from of_changes(given, right, self._cuts, in_pairs=True)
        yield from of_sums(given, right, of.gs, self.hand)
        if tensor is not None and is_shape:
            yield from _of_uses(of, given, tensor)
            yield from _of_parts(of, given, tensor)
        if any(same(given, g) for g in of.g):
            yield "derivative missing", "is g itself: the derivative is missing"
        if is_shape and not same(given, right):
            terms = self._terms
            yield from of_changes(given, right, terms)
            yield from of_changes(given, None, terms)
            if is_first and right.numel() > FEWEST:
                few = terms[:MOST_PAIRED]
                mixed = [*self._cuts, *few, *self._factors, *self._mistakes]
                yield from of_changes(given, right, mixed, in_pairs=True)
                yield from of_changes(given, None, few, in_pairs=True)


class Search:
    """The relations of all gradients of one draw."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        tape = evidence.tape
        # Of loops: what each round has.
        self._rounds = [(k.name, k.values) for k in evidence.known if len(k.values) > 1]
        (self._guesses,) = tee(self._listed(tape, tape.arrays) if tape else (), 1)
        self._right: dict[object, Right] = {}

    def _listed(self, tape: Tape, to: Sequence[Tensor]) -> Iterator[Guess]:
        return guesses(tape, to, self.evidence.hand, self._rounds)

    def of_leaf(self, i: int, run: Run, *, is_first: bool = True) -> Iterator[Relation]:
        """List what relates a gradient that backward returns to the right one."""
        of, given, names = self.evidence, run.given, self.evidence.sample.names
        for j, expected in enumerate(of.expected):
            if j != i and same(given[i], expected):
                is_swap = same(given[j], of.expected[i])
                both = f"{names[min(i, j)]} and {names[max(i, j)]} are swapped"
                yield "swapped", f"is the gradient of another leaf: {both if is_swap else names[j]}"
        if i not in self._right:
            self._guesses, every = tee(self._guesses)
            own = ((name, said, gradients[i]) for name, said, gradients in every)
            array = of.tape.arrays[i] if of.tape else None
            self._right[i] = Right(of, of.expected[i], of.hand, array, own)
        yield from self._right[i].compared(given[i], is_first=is_first)
        for other in of.known:
            if other.calls and any(same(given[i], gradient) for gradient in other.gradients):
                yield "another gradient", f"is the gradient of {other.name}"
        if is_first and not close(-2 * given[i], of.scaled.given[i]):
            yield "not linear in g", NOT_LINEAR

    def of_step(self, step: Step, run: Run, *, is_first: bool = True) -> Iterator[Relation]:
        """List what relates the value of a line to what it should be."""
        of = self.evidence
        values, series = run.trace.values.get(step.place, []), step.series(of)
        values = values[-1:] if len(series) == 1 else values
        pairs = list(zip(values, series, strict=False))
        n = next((n for n, pair in enumerate(pairs) if not close(*pair)), None)
        if n is None:
            return
        value, right = pairs[n]
        if step.is_constant:
            if float((value - right).abs().max()) <= SLIGHTLY * float(right.abs().max()):
                yield "eps missing", "differs slightly from it: is an eps missing?"
            yield "another value", "is another value"
            return
        known = step.known(of)
        for other in of.known:
            if other is not known and any(same(value, gradient) for gradient in other.gradients):
                yield "another gradient", f"is the gradient of {other.name}"
        if (step, n) not in self._right:
            self._right[step, n] = self._of_known(step, right, n)
        yield from self._right[step, n].compared(value, is_first=is_first)
        again = of.scaled.trace.values.get(step.place, [])[-len(values) :]
        if is_first and not all(close(-2 * v, a) for v, a in zip(values, again, strict=False)):
            yield "not linear in g", NOT_LINEAR

    def _of_known(self, step: Step, right: Tensor, n: int) -> Right:
        of, known = self.evidence, step.known(self.evidence)
        hand = of.hand if len(known.gradients) == 1 else []
        tensor = (known.values[::-1] if step.turned else known.values)[n] if known.values else None
        if of.tape is None or tensor is None or not tensor.requires_grad or step.sign < 0:
            return Right(of, right, hand, None, ())
        found = self._listed(of.tape, [tensor])
        return Right(of, right, hand, tensor, ((name, said, made) for name, said, (made,) in found))


def _of_g(of: Evidence, given: Tensor, right: Tensor, tensor: Tensor) -> Iterator[Relation]:
    g = of.sample.g
    if same(given, of.gradient(tensor, tree.map(torch.ones_like, g))):
        yield "g forgotten", "forgets g: it is the gradient for g = 1"
    leaves = tree.leaves(g)
    for n, leaf in enumerate(leaves):
        whose = "g" if len(leaves) == 1 else f"g.{n}"
        for axis, size in enumerate(leaf.shape):
            if 1 < size <= MOST_POSITIONS:
                masks = torch.eye(size).view(size, size, *[1] * (leaf.ndim - axis - 1))
                parts = [of.gradient(tensor, _masked(g, n, mask)) for mask in masks]
                yield from of_uses_of_g(given, parts, axis, whose)
        if len(leaves) > 1 and same(given, right - of.gradient(tensor, _masked(g, n))):
            yield "part of g", f"forgets g.{n}, the gradient of output {n}"


def _of_uses(of: Evidence, given: Tensor, tensor: Tensor) -> Iterator[Relation]:
    """Compare with what single uses of a tensor give."""
    assert of.tape is not None
    uses = of.tape.uses(tensor)
    for n, (call, k) in enumerate(uses if 1 < len(uses) <= MOST_POSITIONS else ()):
        if same(given, of.tape.passed(call)[k]):
            only = f"use {n + 1} of {len(uses)} only, as if overwritten"
            yield "one use", f"is the gradient of {only}: the gradients of all uses must add up"


def _of_parts(of: Evidence, given: Tensor, tensor: Tensor) -> Iterator[Relation]:
    """Compare with what single positions of g give."""
    g, *others = of.g
    if others or not 1 < g.numel() <= MOST_PARTS:
        return
    masks = torch.eye(g.numel()).view(-1, *g.shape)
    parts = torch.stack([of.gradient(tensor, _masked(of.sample.g, 0, mask)) for mask in masks])
    every = parts.view(*g.shape, *tensor.shape)
    # The parts that a loop adds at once are those along one axis, or single ones.
    for rows in (every, *map(every.sum, range(g.ndim))):
        yield from of_last_parts(given, rows.reshape(-1, *tensor.shape))


def _masked(g: Arrays, which: int, mask: Tensor | float = 1.0) -> Arrays:
    """Keep some places of one leaf of g, and set all else to 0."""
    places = count()
    return tree.map(lambda leaf: leaf * (mask if next(places) == which else 0), g)
