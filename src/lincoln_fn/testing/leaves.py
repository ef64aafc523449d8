"""How the gradients that backward returns are related to the right ones."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.paths import CUT, Guess, guesses
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


class Leaves:
    """The relations of all gradients of one draw."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        tape, hand = evidence.tape, evidence.hand
        self._rest: Iterator[Guess] = guesses(tape, tape.arrays, hand) if tape else iter(())
        self._guesses: list[Guess] = []

    def _every_guess(self) -> Iterator[Guess]:
        yield from self._guesses
        for guess in self._rest:
            self._guesses.append(guess)
            yield guess

    def relations(self, i: int) -> Iterator[Relation]:
        """List what relates one gradient to the right one."""
        of = self.evidence
        given, right = of.given[i], of.expected[i]
        yield from of_two(given, right, of.sizes)
        yield from self._of_others(i)
        yield from self._of_g(i)
        yield from self._of_uses(i)
        size = float(right.abs().max()) if right.numel() else 0.0
        for name, said, gradients in self._every_guess():
            if same(given, gradients[i], size) and not same(gradients[i], right, size):
                yield name, said
            elif name == CUT and given.shape == right.shape:
                yield from _of_path(given - gradients[i], right - gradients[i], said, of.hand)
        yield from of_factor(given, right, of.hand)
        yield from of_sums(given, right, of.gs, of.hand)
        yield from self._of_parts(i)
        if any(same(given, g) for g in of.g):
            yield "derivative missing", "is g itself: the derivative is missing"
        yield from of_terms(given, right, of.gs, of.hand)

    def _of_others(self, i: int) -> Iterator[Relation]:
        of = self.evidence
        names, given = of.sample.names, of.given
        for j, expected in enumerate(of.expected):
            if j != i and same(given[i], expected):
                is_swap = same(given[j], of.expected[i])
                both = f"{names[min(i, j)]} and {names[max(i, j)]} are swapped"
                yield "swapped", f"is the gradient of another leaf: {both if is_swap else names[j]}"

    def _of_g(self, i: int) -> Iterator[Relation]:
        of = self.evidence
        given = of.given[i]
        if given.shape != of.expected[i].shape:
            return
        ones = of.gradients(tree.map(torch.ones_like, of.sample.g))
        if ones and same(given, ones[i]):
            yield "g forgotten", "forgets g: it is the gradient for g = 1"
        leaves = tree.leaves(of.sample.g)
        for n, leaf in enumerate(leaves):
            whose = "g" if len(leaves) == 1 else f"g.{n}"
            for axis in range(leaf.ndim):
                if 1 < leaf.shape[axis] <= MOST_POSITIONS and of.tape is not None:
                    parts = [
                        of.gradients(_only(of.sample.g, n, axis, k))
                        for k in range(leaf.shape[axis])
                    ]
                    yield from of_uses_of_g(given, [part[i] for part in parts], axis, whose)
        if len(leaves) > 1:
            for n in range(len(leaves)):
                without = of.gradients(_only(of.sample.g, n, None, 0))
                if without and same(given, of.expected[i] - without[i]):
                    yield "part of g", f"forgets g.{n}, the gradient of output {n}"

    def _of_parts(self, i: int) -> Iterator[Relation]:
        """Compare with what single positions of g give."""
        of, (g, *others) = self.evidence, self.evidence.g
        if others or of.tape is None or not 1 < g.numel() <= MOST_PARTS:
            return
        parts = []
        for n in range(g.numel()):
            one = torch.zeros_like(g).flatten()
            one[n] = g.flatten()[n]
            alone = tree.map(lambda leaf, one=one: one.view(leaf.shape), of.sample.g)
            parts.append(of.gradients(alone)[i])
        every = torch.stack(parts).view(*g.shape, *parts[0].shape)
        # The parts that a loop adds at once are those along one axis, or single ones.
        for rows in (every, *map(every.sum, range(g.ndim))):
            yield from of_last_parts(of.given[i], rows.reshape(-1, *parts[0].shape))

    def _of_uses(self, i: int) -> Iterator[Relation]:
        """Compare with the gradients of the single uses of an array in forward."""
        tape, given = self.evidence.tape, self.evidence.given[i]
        if tape is None:
            return
        array = tape.arrays[i]
        uses = [(c, k) for c in tape.calls for k, u in enumerate(c.inputs) if u is array]
        is_loop = len({call.position for call, _ in uses}) == 1
        if not is_loop or not 2 <= len(uses) <= MOST_POSITIONS:
            return
        parts = [c.vjp(tape.arrived(c))[k] for c, k in uses]
        for n, part in enumerate(parts):
            if same(given, part):
                only = f"use {n + 1} of {len(uses)} only, as if overwritten"
                yield "one use", f"is the gradient of {only}: the gradients of all uses must add up"


def _of_path(given: Tensor, right: Tensor, said: str, hand: Hand) -> Iterator[Relation]:
    """Compare what goes through one path alone."""
    path = said.removeprefix("misses ").partition(", as if")[0]
    times = ratio(given, right) if bool(right.any()) else None
    fraction = simple(times) if times is not None else None
    if fraction == -1:
        yield "sign", f"has the wrong sign in {path}"
    elif fraction is not None and fraction != 1:
        yield "factor", f"counts {path} {fraction} times"
    elif times is None and given.shape == right.shape:
        for name, factor in of_factor(given, right, hand):
            yield name, f"{factor} in {path}"


def _only(g: object, which: int, axis: int | None, position: int) -> object:
    """Keep one leaf of g, or one of its positions, and set all else to 0."""
    count = iter(range(1_000_000))

    def kept(leaf: Tensor) -> Tensor:
        if next(count) != which:
            return torch.zeros_like(leaf)
        if axis is None:
            return leaf
        mask = torch.zeros_like(leaf)
        mask.select(axis, position).fill_(1)
        return leaf * mask

    return tree.map(kept, g)
