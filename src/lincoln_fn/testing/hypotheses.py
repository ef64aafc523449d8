"""What may relate a wrong gradient to the right one: one small function for each hypothesis.

A hypothesis says what the gradient would be if a mistake had been made, such as one in a single
operation of forward. Where a value of backward is that, it is told.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import combinations, count, permutations
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, tree
from lincoln_fn.testing import terms
from lincoln_fn.testing.diagnosis import shapes
from lincoln_fn.testing.evidence import Evidence, Known
from lincoln_fn.testing.oracles import size_of
from lincoln_fn.testing.tape import Call, WrongDerivative, describe

MOST_AXES = 5
# Of more positions of g, each is not looked at alone.
MOST_PARTS = 200
_PRODUCTS = ("mul", "matmul", "linear", "einsum", "conv1d", "conv2d", "conv3d")


class Mistake(NamedTuple):
    """What is told of a gradient."""

    # "" if nothing explains it.
    name: str
    # What follows the name of the gradient.
    sentence: str


@attrs.frozen(eq=False, slots=False)
class Value:
    """A value that backward should have computed."""

    of: Evidence
    # What it is the gradient of.
    known: Known
    right: Tensor
    # What it is the gradient of, on the tape; None if autograd does not follow it.
    tensor: Tensor | None
    hand: terms.Hand

    def _if(self, mistake: WrongDerivative) -> Iterator[tuple[str, str, Tensor]]:
        """List what a mistake in the derivative of one operation changes, with its name."""
        if self.of.tape is not None and self.tensor is not None:
            for call, change in self.of.tape.changes_if(mistake, self.tensor):
                if bool(change.any()) and bool(change.isfinite().all()):
                    yield call.name, describe(call), change

    @cached_property
    def cuts(self) -> list[terms.Change]:
        """Take one operation for a constant."""
        return [terms.Change(terms.CUT, what, change) for _, what, change in self._if(_zeros)]

    @cached_property
    def derivatives(self) -> list[terms.Change]:
        """Take another derivative of one operation."""
        factor = dict.fromkeys(_PRODUCTS, "other factor")
        return [
            terms.Change(kind, said.format(factor.get(name, "derivative"), what), change)
            for kind, said, mistake in _MISTAKES
            for name, what, change in self._if(mistake)
        ]

    @cached_property
    def factors(self) -> list[terms.Change]:
        """Take a factor too many or too few, in one path or in all."""
        paths = [(f" in the path through {cut.said}", cut.value) for cut in self.cuts]
        return [
            terms.Change(kind, f"{said} {name}{path}", change - change * factor)
            for name, value in self.hand
            for kind, said, factor in (
                ("further factor", "has the further factor", value),
                ("factor missing", "lacks the factor", 1 / value),
            )
            if terms.fits(value.shape, self.right.shape) and bool(factor.isfinite().all())
            for path, change in (*paths, ("", -self.right))
        ]

    @cached_property
    def parts(self) -> list[Tensor]:
        """What single positions of the first leaf of g give."""
        assert self.tensor is not None
        masks = torch.eye(self.of.g[0].numel()).view(-1, *self.of.g[0].shape)
        return [self.of.gradient(self.tensor, masked(self.of.sample.g, 0, m)) for m in masks]

    @cached_property
    def products(self) -> list[terms.Change]:
        """Add a product of what is at hand."""
        return terms.list_terms(self.right, self.of.gs, self.hand)


def masked(g: Arrays, which: int, mask: Tensor | float) -> Arrays:
    """Keep some places of one leaf of g, and set all else to 0."""
    places = count()
    return tree.map(lambda leaf: leaf * (mask if next(places) == which else 0), g)


def _zeros(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor:
    return torch.zeros_like(right)


def _passed_on(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    return g.sum_to_size(right.shape) if terms.fits(right.shape, g.shape) else None


def _inverted(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    return g - right if g.shape == right.shape else None


def _untransposed(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
    if call.name not in _PRODUCTS or right.ndim < 2 or right.shape != g.shape:
        return None
    turned = [n for n, leaf in enumerate(call.leaves) if n != call.tracked[k] and _is_square(leaf)]
    leaves = [leaf.mT if n in turned else leaf for n, leaf in enumerate(call.leaves)]
    return attrs.evolve(call, leaves=leaves).vjp([g])[k] if turned else None


def _written(formula: Callable[[Tensor, Tensor], Tensor]) -> WrongDerivative:
    """Make the mistake of another derivative, a formula of the input x and the output y."""

    def mistake(call: Call, k: int, g: Tensor, right: Tensor) -> Tensor | None:
        x, y = call.inputs[k].detach(), call.outputs[0].detach()
        fits = terms.fits(x.shape, y.shape)
        return (g * formula(x, y)).sum_to_size(right.shape) if fits else None

    return mistake


def _is_square(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.ndim > 1 and leaf.shape[-1] == leaf.shape[-2]


_FORMULAS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
    "x": lambda x, y: x,
    "y": lambda x, y: y,
    "1 - y": lambda x, y: 1 - y,
    "y (1 - y)": lambda x, y: y * (1 - y),
    "x (1 - x)": lambda x, y: x * (1 - x),
    "1 - y^2": lambda x, y: 1 - y * y,
    "1 - x^2": lambda x, y: 1 - x * x,
}
_INSTEAD = " in place of the {} of {}, with x its input and y its output"
_MISTAKES: tuple[tuple[str, str, WrongDerivative], ...] = (
    ("derivative missing", "lacks the {} of {}", _passed_on),
    ("mask inverted", "has 1 - d in place of the {} d of {}: is a mask inverted?", _inverted),
    ("transposed", "takes the {} of {} without its transposition", _untransposed),
    *(("derivative", f"has {said}{_INSTEAD}", _written(how)) for said, how in _FORMULAS.items()),
)


def relations(at: Value, given: Tensor) -> Iterator[Mistake]:
    """List what relates a value to the right one."""
    for hypothesis in HYPOTHESES:
        for name, said, guess in hypothesis(at, given):
            if not terms.same(given, guess, size_of(at.right)):
                continue
            if given.shape != at.right.shape:
                said = f"{said}{' Also' if said[-1] == '?' else ''}: {shapes(given, at.right)}"
            yield Mistake(name, said)


def _swapped(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    names, returned, right = at.of.sample.names, at.of.sample.given, at.of.expected
    for i, j in permutations(range(len(right)), 2):
        # An axis of 1 too many or too few is no other mistake.
        is_other = right[j].numel() == given.numel() and returned[j].numel() == right[i].numel()
        if not (is_other and torch.equal(returned[i], given)):
            continue
        if terms.same(returned[j].reshape(right[i].shape), right[i]):
            both = f"{names[min(i, j)]} and {names[max(i, j)]} are swapped"
            said = f"is the gradient of another leaf: {both}"
            yield "swapped", said, right[j].reshape(given.shape)


def _zero(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    if bool(at.right.any()):
        yield "zero", "is zero", torch.zeros_like(given)


def _times(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    # An axis of 1 too many or too few is no other mistake.
    one, other = ([n for n in each.shape if n > 1] for each in (given, at.right))
    right, square = at.right, float(at.right.square().sum())
    if one != other or not square:
        return
    right = right.reshape(given.shape)
    times = float((given * right).sum()) / square
    if times and abs(times - 1) > terms.SAME:
        yield *_multiple(times, at.of.sizes), times * right


def _multiple(times: float, sizes: Sequence[int]) -> tuple[str, str]:
    if abs(times + 1) <= terms.SAME:
        return "sign", "has the wrong sign"
    is_large, sign = abs(times) > 1, "has the wrong sign and " if times < 0 else ""
    size = abs(times) if is_large else 1 / abs(times)
    name, why = "factor", ""
    if any(abs(size - n) <= terms.SAME * n for n in sizes):
        name, other = ("summed", "averaged") if is_large else ("averaged", "summed")
        why = f": {name} where it should be {other}?"
    return name, f"{sign}is {size:.6g} times too {'large' if is_large else 'small'}{why}"


def _in_order(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    """Keep the right numbers in another order."""
    right = at.right
    if given.numel() != right.numel():
        return
    for order in permutations(range(right.ndim)) if right.ndim <= MOST_AXES else ():
        if moved := [n for n, axis in enumerate(order) if n != axis]:
            is_last = moved == [right.ndim - 2, right.ndim - 1]
            said = "is transposed" if is_last else f"has its axes in the order {order}"
            yield "transposed", said, right.permute(order)
    yield "another shape", "has the right values in another shape", right.reshape(given.shape)
    if terms.same(given.flatten().sort().values, right.flatten().sort().values):
        said = "has the right values in the wrong places: moved, or reshaped for transposed?"
        yield "reordered", said, given


def _summed(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    """Sum over too few axes, or too many."""
    right = at.right
    for axes in _subsets(given.ndim):
        total = given.sum(axes)
        if total.numel() == right.numel() and terms.same(total.reshape(right.shape), right):
            over = "the batch" if axes == (0,) else _list_axes(axes)
            yield "not summed", f"is not summed over {over}", given
    for axes in _subsets(right.ndim):
        total = right.sum(axes, keepdim=True)
        is_kept = given.shape == right.shape
        if is_kept or total.numel() == given.numel():
            said = f"is summed over {_list_axes(axes)}, which it should keep"
            yield "summed", said, total.expand_as(given) if is_kept else total.reshape(given.shape)


def _on_diagonal(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    """Multiply every column with every other, where each is multiplied with its own."""
    if given.ndim == 2 and at.right.ndim == 1 and terms.same(given.diagonal(), at.right):
        yield "matrix product", "is a matrix product, of which only the diagonal is right", given


def _subsets(ndim: int) -> list[tuple[int, ...]]:
    if ndim > MOST_AXES:
        return []
    return [some for n in range(1, ndim + 1) for some in combinations(range(ndim), n)]


def _list_axes(axes: Sequence[int]) -> str:
    return f"{'axis' if len(axes) == 1 else 'axes'} {', '.join(map(str, axes))}"


def _clipped(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    if given.numel():
        low, high = float(given.min()), float(given.max())
        if 1 < int(((at.right > high) | (at.right < low)).sum()) < given.numel():
            yield "clipped", f"is clipped to [{low:.6g}, {high:.6g}]", at.right.clamp(low, high)


def _without_g(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    g, of = at.of.sample.g, at.of
    if at.tensor is None:
        return
    alone = of.gradient(at.tensor, tree.map(torch.ones_like, g))
    yield "g forgotten", "forgets g: it is the gradient for g = 1", alone
    for n in range(len(tree.leaves(g)) if len(of.g) > 1 else 0):
        said = f"forgets g.{n}, the gradient of output {n}"
        yield "part of g", said, at.right - of.gradient(at.tensor, masked(g, n, 1.0))


def _one_change(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    yield from terms.of_changes(given, at.right, at.cuts)
    yield from terms.of_changes(given, at.right, at.factors)
    yield from terms.of_changes(given, at.right, at.derivatives)
    yield from terms.of_changes(given, at.right, at.cuts, in_pairs=True)
    yield from terms.of_sums(given, at.right, at.of.gs, at.hand)


def _overwritten(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    """Take the last use of a value for all of them, and the last position of g."""
    tape, g = at.of.tape, at.of.g
    if tape is None or at.tensor is None:
        return
    uses = tape.uses(at.tensor)
    for n, (call, k) in enumerate(uses if len(uses) > 1 else ()):
        only = f"use {n + 1} of {len(uses)} only, as if overwritten"
        said = f"is the gradient of {only}: the gradients of all uses must add up"
        yield "one use", said, tape.passed(call)[k]
    if len(g) > 1 or not 1 < g[0].numel() <= MOST_PARTS:
        return
    every = torch.stack(at.parts).view(*g[0].shape, *at.tensor.shape)
    said = "keeps one part where those of several positions of g add up: is it overwritten?"
    # The parts that a loop adds at once are those along one axis, or single ones.
    for some in (every, *map(every.sum, range(g[0].ndim))):
        rows = some.reshape(-1, *at.tensor.shape)
        for ordered in (rows, rows.flip(0)):
            last = (ordered != 0).long().cumsum(0).argmax(0, keepdim=True)
            yield "overwritten", said, ordered.gather(0, last)[0]


def _another(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    for g in at.of.g:
        yield "derivative missing", "is g itself: the derivative is missing", g
    for other in at.of.known:
        is_named = other.name[-1:] != ")"  # "add()" tells nobody what it is
        for gradient in other.gradients if is_named and other is not at.known else ():
            yield "another gradient", f"is the gradient of {other.said}", gradient


def _terms(at: Value, given: Tensor) -> Iterator[terms.Guess]:
    yield from terms.of_changes(given, at.right, at.products)
    yield from terms.of_changes(given, None, at.products)
    if at.right.numel() > terms.FEWEST:
        few = at.products[: terms.MOST_PAIRED]
        mixed = [*at.cuts, *few, *at.factors, *at.derivatives]
        yield from terms.of_changes(given, at.right, mixed, in_pairs=True)
        yield from terms.of_changes(given, None, few, in_pairs=True)


# The simple ones first.
HYPOTHESES = (
    _swapped, _zero, _times, _in_order, _summed, _on_diagonal, _clipped, _without_g,
    _one_change, _overwritten, _another, _terms,
)  # fmt: skip
