"""What relates a value of backward to the right gradient, in the order in which it is sought."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import count, tee
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, tree
from lincoln_fn.testing.align import Step
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.paths import CUT, guesses
from lincoln_fn.testing.point import NOT_LINEAR, not_linear
from lincoln_fn.testing.relations import (
    Relation,
    of_last_parts,
    of_two,
    of_uses_of_g,
    ratio,
    same,
    simple,
)
from lincoln_fn.testing.terms import Hand, of_factor, of_sums, of_terms

# Of more positions than these, each is not looked at alone.
MOST_POSITIONS = 16
MOST_PARTS = 200
# Two values that differ by a smaller part differ by an eps.
SLIGHTLY = 0.2

# A name, a sentence, and the gradient that the mistake would give.
Guesses: TypeAlias = Iterable[tuple[str, str, Tensor]]


class Search:
    """The relations of all gradients of one draw."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        tape = evidence.tape
        (self._guesses,) = tee(guesses(tape, tape.arrays, evidence.hand) if tape else (), 1)

    def of_leaf(self, i: int) -> Iterator[Relation]:
        """List what relates a gradient that backward returns to the right one."""
        of, given, names = self.evidence, self.evidence.given, self.evidence.sample.names
        for j, expected in enumerate(of.expected):
            if j != i and same(given[i], expected):
                is_swap = same(given[j], of.expected[i])
                both = f"{names[min(i, j)]} and {names[max(i, j)]} are swapped"
                yield "swapped", f"is the gradient of another leaf: {both if is_swap else names[j]}"
        self._guesses, every = tee(self._guesses)
        own = ((name, said, gradients[i]) for name, said, gradients in every)
        array = of.tape.arrays[i] if of.tape else None
        yield from _relations(of, given[i], of.expected[i], of.hand, array, own)
        if names[i] in not_linear(of.sample, Key(7)):
            yield "not linear in g", NOT_LINEAR

    def of_step(self, step: Step) -> Iterator[Relation]:
        """List what relates the value of a line to what it should be."""
        of = self.evidence
        values, series = of.steps.values.get(step.place, []), step.series(of)
        values = values[-1:] if len(series) == 1 else values
        pairs = list(zip(values, (right.detach() for right in series), strict=False))
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
        hand = of.hand if len(series) == 1 else []
        tensor = (known.values[::-1] if step.turned else known.values)[n]
        if of.tape is None or not tensor.requires_grad:
            yield from _relations(of, value, right, hand, None, ())
            return
        found = guesses(of.tape, [tensor], of.hand)
        own = ((name, said, guess) for name, said, (guess,) in found)
        yield from _relations(of, value, right, hand, tensor, own)


def _relations(
    of: Evidence, given: Tensor, right: Tensor, hand: Hand, tensor: Tensor | None, own: Guesses
) -> Iterator[Relation]:
    yield from of_two(given, right, of.sizes)
    is_shape = given.shape == right.shape
    if tensor is not None and is_shape:
        yield from _of_g(of, given, right, tensor)
    size = float(right.abs().max()) if right.numel() else 0.0
    for name, said, guess in own:
        if same(given, guess, size) and not same(guess, right, size):
            yield name, said
        elif name == CUT and is_shape:
            yield from _of_path(given - guess, right - guess, said, of.hand)
    yield from of_factor(given, right, hand)
    yield from of_sums(given, right, of.gs, hand)
    if tensor is not None and is_shape:
        yield from _of_uses(of, given, tensor)
        yield from _of_parts(of, given, tensor)
    if any(same(given, g) for g in of.g):
        yield "derivative missing", "is g itself: the derivative is missing"
    yield from of_terms(given, right, of.gs, hand)


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
    uses = [(call, k) for call in of.tape.calls for k, u in enumerate(call.inputs) if u is tensor]
    for n, (call, k) in enumerate(uses if 1 < len(uses) <= MOST_POSITIONS else ()):
        if same(given, call.vjp(of.tape.arrived(call))[k]):
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


def _of_path(given: Tensor, right: Tensor, said: str, hand: Hand) -> Iterator[Relation]:
    """Compare what goes through one path alone."""
    path = said.removeprefix("misses ").partition(", as if")[0]
    times = ratio(given, right) if bool(right.any()) else None
    fraction = simple(times) if times is not None else None
    if fraction == -1:
        yield "sign", f"has the wrong sign in {path}"
    elif fraction is not None and fraction != 1:
        yield "factor", f"counts {path} {fraction} times"
    elif times is None:
        for name, factor in of_factor(given, right, hand):
            yield name, f"{factor} in {path}"


def _masked(g: Arrays, which: int, mask: Tensor | float = 1.0) -> Arrays:
    """Keep some places of one leaf of g, and set all else to 0."""
    places = count()
    return tree.map(lambda leaf: leaf * (mask if next(places) == which else 0), g)
