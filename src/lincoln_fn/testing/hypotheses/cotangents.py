"""Mistakes in the use of g, or of an array: it is forgotten, in part, or another one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Cost, Guess, Hypothesis

Change = Callable[[Tensor], Tensor]


def _change_g(evidence: Evidence, change: Change, **words: object) -> Guess:
    """Make the guess that is the right gradient of another g."""
    return Guess([*evidence.gradients(g=tree.map(change, evidence.sample.g))], words)


def _try(change: Change) -> Candidates:
    def candidates(evidence: Evidence) -> Iterator[Guess]:
        yield _change_g(evidence, change)

    return candidates


def _list_axes(evidence: Evidence) -> Iterator[tuple[int, int]]:
    """List the axes of g, with the largest size along each."""
    for axis in range(max((g.ndim for g in evidence.g), default=0)):
        yield axis, max(g.shape[axis] for g in evidence.g if g.ndim > axis)


def _keep_places(g: Tensor, axis: int, places: range, *, kept: bool) -> Tensor:
    """Keep g at some places of an axis alone, or everywhere else."""
    inside = [place for place in places if g.ndim > axis and place < g.shape[axis]]
    if not inside or not g.is_floating_point():
        return g
    index = torch.tensor(inside, device=g.device)
    alone = torch.zeros_like(g).index_copy(axis, index, g.index_select(axis, index))
    return alone if kept else g - alone


def _keep_place(evidence: Evidence, *, kept: bool) -> Iterator[Guess]:
    """Keep g at the first or last place of one axis alone, or leave that place out."""
    for axis, size in _list_axes(evidence):
        for which, place in (("first", 0), ("last", size - 1)) if size > 1 else ():
            change = partial(_keep_places, axis=axis, places=range(place, place + 1), kept=kept)
            yield _change_g(evidence, change, which=which, axis=axis)


def _keep_first(evidence: Evidence) -> Iterator[Guess]:
    """Keep g at the first places of one axis, as a loop over the size of another axis does."""
    for axis, size in _list_axes(evidence):
        for n in range(2, min(size, 12)):
            change = partial(_keep_places, axis=axis, places=range(n), kept=True)
            yield _change_g(evidence, change, n=n, axis=axis)


def _keep_strided(evidence: Evidence) -> Iterator[Guess]:
    """Keep g at every n-th place of one axis, as if copies were not added up."""
    for axis, size in _list_axes(evidence):
        for step in (2, 3, 4):
            for start in (0, step - 1):
                change = partial(
                    _keep_places, axis=axis, places=range(start, size, step), kept=True
                )
                yield _change_g(evidence, change, step=step, axis=axis)


def _reverse(evidence: Evidence) -> Iterator[Guess]:
    for axis, _ in _list_axes(evidence):
        yield _change_g(evidence, partial(_flip, axis=axis), axis=axis)


def _flip(g: Tensor, axis: int) -> Tensor:
    return g.flip(axis) if g.ndim > axis else g


def _forget_output(evidence: Evidence) -> Iterator[Guess]:
    """Leave out the gradient of one of several outputs."""
    for k, left_out in enumerate(evidence.g) if len(evidence.g) > 1 else ():
        yield _change_g(evidence, partial(_zero, left_out), k=k)


def _zero(left_out: Tensor, g: Tensor) -> Tensor:
    return torch.zeros_like(g) if g is left_out else g


HYPOTHESES = [
    Hypothesis(name, sentence, candidates, Cost.WHOLE)
    for name, sentence, candidates in (
        ("output forgotten", "forgets g.{k}, the gradient of output {k}", _forget_output),
        ("g forgotten", "forgets g: it is the gradient for g = 1", _try(torch.ones_like)),
        ("one place of g", "uses g only at the {which} position of axis {axis}; the others are "
         "missing or overwritten", partial(_keep_place, kept=True)),
        ("a place of g missing", "leaves out the {which} position of axis {axis} of g",
         partial(_keep_place, kept=False)),
        ("a part of g", "uses g only at the first {n} positions of axis {axis}: does a loop end at "
         "the size of another axis?", _keep_first),
        ("copies not added up", "uses g only at every {step} positions of axis {axis}: copies "
         "must add up", _keep_strided),
        ("g reordered", "uses g reversed along axis {axis}", _reverse),
    )
]  # fmt: skip


def _change_values(evidence: Evidence) -> Iterator[Guess]:
    """Give one array another value: y, g, its negative or transpose, or another array."""
    names, arrays = _list_arrays(evidence)
    for i, (what, array) in enumerate(zip(names, arrays, strict=True)):
        others = [(f"{said} in place of {what}", v) for said, v in _list_others(evidence, i)]
        if array.ndim >= 2:
            others.append((f"{what} transposed", array.mT))
            others.append((f"{what} with its first two axes exchanged", array.transpose(0, 1)))
        others += [
            (f"{what} reversed along axis {axis}", array.flip(axis)) for axis in range(array.ndim)
        ]
        if array.ndim > 2:
            others.append((f"{what} reversed along its last two axes", array.flip(-2, -1)))
        for words, value in others:
            if value.shape == array.shape:
                moved = [*arrays[:i], value, *arrays[i + 1 :]]
                yield Guess([*evidence.gradients(moved)], {"words": words})


def _list_arrays(evidence: Evidence) -> tuple[list[str], list[Tensor]]:
    return [name.removeprefix("d") for name in evidence.sample.names], evidence.sample.arrays


def _list_others(evidence: Evidence, i: int) -> Iterator[tuple[str, Tensor]]:
    names, arrays = _list_arrays(evidence)
    yield from (("y", y) for y in evidence.y[:1])
    yield from (("g", g) for g in evidence.g[:1])
    yield f"-{names[i]}", -arrays[i]
    yield "zeros", torch.zeros_like(arrays[i])
    yield "ones", torch.ones_like(arrays[i])
    yield from ((names[j], arrays[j]) for j in range(len(arrays)) if j != i)


ELSEWHERE = [
    Hypothesis("at other values", "is computed with {words}", _change_values, Cost.ANOTHER),
]  # fmt: skip
