"""Mistakes in the use of g: it is forgotten, or only a part of it is used."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Guess, Hypothesis


def _axes(evidence: Evidence) -> range:
    return range(max((g.ndim for g in evidence.g), default=0))


def _of(change: Callable[[Tensor], Tensor]) -> Candidates:
    """Make the candidate that is the right gradient of another g."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        found = evidence.gradients(g=tree.map(change, evidence.sample.g))
        yield Guess([*found])

    return candidates


def _one_place(evidence: Evidence) -> Iterator[Guess]:
    """Keep g at one position of one axis, for instance of the last example or the last step."""
    for axis in _axes(evidence):
        size = max(g.shape[axis] for g in evidence.g if g.ndim > axis)
        places = {0, size - 1} if size > 1 else set()
        for place in sorted(places):

            def kept(g: Tensor, axis: int = axis, place: int = place) -> Tensor:
                if g.ndim <= axis or not g.is_floating_point() or g.shape[axis] <= place:
                    return g
                alone = torch.zeros_like(g)
                alone.select(axis, place).copy_(g.select(axis, place))
                return alone

            which = "first" if place == 0 else "last"
            found = evidence.gradients(g=tree.map(kept, evidence.sample.g))
            yield Guess([*found], {"which": which, "axis": axis})


def _without_place(evidence: Evidence) -> Iterator[Guess]:
    """Leave out the first or the last position of g along one axis, as a loop too short does."""
    for axis in _axes(evidence):
        for which, place in (("first", 0), ("last", -1)):

            def kept(g: Tensor, axis: int = axis, place: int = place) -> Tensor:
                if g.ndim <= axis or g.shape[axis] < 2 or not g.is_floating_point():
                    return g
                rest = g.clone()
                rest.select(axis, place).zero_()
                return rest

            found = evidence.gradients(g=tree.map(kept, evidence.sample.g))
            yield Guess([*found], {"which": which, "axis": axis})


def _strided(evidence: Evidence) -> Iterator[Guess]:
    """Keep g at every n-th position of one axis, as if copies were not added up."""
    for axis in _axes(evidence):
        for step in (2, 3, 4):
            for start in (0, step - 1):

                def kept(
                    g: Tensor, axis: int = axis, step: int = step, start: int = start
                ) -> Tensor:
                    if g.ndim <= axis or g.shape[axis] <= start:
                        return g
                    places = torch.arange(start, g.shape[axis], step, device=g.device)
                    alone = torch.zeros_like(g)
                    return alone.index_copy(axis, places, g.index_select(axis, places))

                found = evidence.gradients(g=tree.map(kept, evidence.sample.g))
                yield Guess([*found], {"step": step, "axis": axis})


def _reordered(evidence: Evidence) -> Iterator[Guess]:
    for axis in _axes(evidence):

        def flipped(g: Tensor, axis: int = axis) -> Tensor:
            return g.flip(axis) if g.ndim > axis else g

        yield Guess(
            [*evidence.gradients(g=tree.map(flipped, evidence.sample.g))],
            {"order": f"reversed along axis {axis}"},
        )


def _swapped(evidence: Evidence) -> Iterator[Guess]:
    leaves = tree.leaves(evidence.sample.g)
    if len(leaves) == 2 and leaves[0].shape == leaves[1].shape:
        swapped = iter(reversed(leaves))
        g = tree.map(lambda leaf: next(swapped), evidence.sample.g)
        yield Guess([*evidence.gradients(g=g)])


def _one_output(evidence: Evidence) -> Iterator[Guess]:
    """Leave out the gradient of one of several outputs."""
    for k in range(len(evidence.g)) if len(evidence.g) > 1 else ():
        count = iter(range(len(evidence.g)))

        def kept(g: Tensor, k: int = k, count: Iterator[int] = count) -> Tensor:
            return torch.zeros_like(g) if g.is_floating_point() and next(count) == k else g

        found = evidence.gradients(g=tree.map(kept, evidence.sample.g))
        yield Guess([*found], {"k": k})


HYPOTHESES = [
    Hypothesis("output forgotten", "forgets g.{k}, the gradient of output {k}", _one_output),
    Hypothesis("g forgotten", "forgets g: it is the gradient for g = 1", _of(torch.ones_like)),
    Hypothesis("g squared", "has the factor g twice", _of(torch.square)),
    Hypothesis("g's size", "uses the absolute value of g", _of(torch.abs)),
    Hypothesis("g's sign", "uses only the sign of g", _of(torch.sign)),
    Hypothesis(
        "g averaged", "uses the mean of g in place of g", _of(lambda g: g.mean().expand_as(g))
    ),
    Hypothesis("g summed", "uses the sum of g in place of g", _of(lambda g: g.sum().expand_as(g))),
    Hypothesis("gs swapped", "swaps the two parts of g", _swapped),
    Hypothesis(
        "one place of g",
        "uses g only at the {which} position of axis {axis}; the others are missing or overwritten",
        _one_place,
    ),
    Hypothesis(
        "a place of g missing",
        "leaves out the {which} position of axis {axis} of g",
        _without_place,
    ),
    Hypothesis(
        "copies not added up",
        "uses g only at every {step} positions of axis {axis}: copies must add up",
        _strided,
    ),
    Hypothesis("g reordered", "uses g {order}", _reordered),
]
