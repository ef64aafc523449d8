"""Right values in the wrong places, with the wrong axes, of another leaf or of another sign."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import (
    Cost,
    Guess,
    Hypothesis,
    change_each,
    guess_alone,
)


def _list_axes(evidence: Evidence) -> range:
    return range(max((right.ndim for right in evidence.expected), default=0))


def _transpose(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if right.ndim >= 2:
            told = "" if given.shape == right.shape else f": {tell_shapes(given, right)}"
            yield guess_alone(evidence, i, right.mT, told=told)


def _permute(evidence: Evidence) -> Iterator[Guess]:
    for i, right in enumerate(evidence.expected):
        for axes in permutations(range(right.ndim)) if 2 < right.ndim < 6 else ():
            yield guess_alone(evidence, i, right.permute(axes), axes=axes)


def _reverse(evidence: Evidence) -> Iterator[Guess]:
    for count in (1, 2, 3):
        for axes in combinations(_list_axes(evidence), count):
            found = [r.flip(axes) if r.ndim > axes[-1] else None for r in evidence.expected]
            yield Guess([*found], {"axes": name_axes(axes)})


def _shift(evidence: Evidence) -> Iterator[Guess]:
    """Move every entry by one or two places, around the end or with zeros behind."""
    for axis in _list_axes(evidence):
        for shift in (1, -1, 2, -2):
            for change in (_roll, _push):
                found = [
                    change(r, shift, axis) if r.ndim > axis and r.shape[axis] > 1 else None
                    for r in evidence.expected
                ]
                yield Guess([*found], {"shift": shift, "axis": axis})


def _roll(right: Tensor, shift: int, axis: int) -> Tensor:
    return right.roll(shift, axis)


def _push(right: Tensor, shift: int, axis: int) -> Tensor:
    n = right.shape[axis]
    moved, count = right.roll(shift, axis).clone(), min(abs(shift), n)
    moved.narrow(axis, 0 if shift > 0 else n - count, count).zero_()
    return moved


def _reshape(evidence: Evidence) -> Iterator[Guess]:
    """Reshape where axes should be exchanged."""
    for i, right in enumerate(evidence.expected):
        for axes in permutations(range(right.ndim)) if 1 < right.ndim < 5 else ():
            yield guess_alone(evidence, i, right.permute(axes).reshape(right.shape))


def _change_shape(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape and given.numel() == right.numel():
            yield guess_alone(
                evidence, i, right.reshape(given.shape), shapes=tell_shapes(given, right)
            )


def _sort(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape == right.shape and right.numel() > 2:
            ranks = given.flatten().argsort().argsort()
            yield guess_alone(evidence, i, right.flatten().sort().values[ranks].view(right.shape))


def tell_shapes(given: Tensor, right: Tensor) -> str:
    """Say which shape was given and which was expected."""
    return f"shape {tuple(given.shape)}, expected {tuple(right.shape)}"


def name_axes(axes: tuple[int, ...]) -> str:
    """Say which axes: "axis 1", "axes 0, 2" or "no axis"."""
    if not axes:
        return "no axis"
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


_PLACES = "has the right values in the wrong places"
HYPOTHESES = [
    Hypothesis("transposed", "is transposed{told}", _transpose, Cost.PLACES),
    Hypothesis("another shape", "has the right values in another shape: {shapes}",
               _change_shape, Cost.PLACES),
    Hypothesis("reversed", "is reversed along {axes}", _reverse, Cost.PLACES),
    Hypothesis("shifted", "is shifted by {shift} along axis {axis}", _shift, Cost.PLACES),
    Hypothesis("reshaped", f"{_PLACES}: reshaped where it should be transposed?", _reshape,
               Cost.PLACES),
    Hypothesis("permuted", "has its axes in the order {axes}", _permute, Cost.PLACES),
    Hypothesis("wrong places", _PLACES, _sort, Cost.FITTED),
]  # fmt: skip


def _swap(evidence: Evidence) -> Iterator[Guess]:
    """Give two leaves the right gradients of each other."""
    names, right, given = evidence.sample.names, evidence.expected, evidence.given
    for i in range(len(names)):
        for j in range(i):
            if close(given[j], right[i]) and close(given[i], right[j]):
                found: list[Tensor | None] = [None] * len(names)
                found[i], found[j] = right[j], right[i]
                yield Guess(found, {"first": names[j], "second": names[i]})


def _zero_partly(evidence: Evidence) -> Iterator[Guess]:
    """Keep the right gradient at some places; the others are zero."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape == right.shape:
            is_zero = (given == 0) & (right != 0)
            if 0 < int(is_zero.sum()) < right.numel():
                where = _describe(is_zero)
                yield guess_alone(evidence, i, torch.where(is_zero, 0, right), where=where)


def _describe(is_zero: Tensor) -> str:
    """Say where a gradient is zero: along one axis if that tells it, else how often."""
    for axis in range(is_zero.ndim):
        rows = is_zero.movedim(axis, 0).reshape(is_zero.shape[axis], -1)
        if bool(rows.all(1).any()) and not bool(rows[~rows.all(1)].any()):
            listed = ", ".join(str(n) for n in rows.all(1).nonzero().flatten().tolist()[:5])
            return f"at positions {listed} of axis {axis}"
    return f"in {int(is_zero.sum())} of {is_zero.numel()} places"


def _take_diagonal(evidence: Evidence) -> Iterator[Guess]:
    """Keep the right gradient on the diagonal of a matrix: the matrix is the submission's own."""
    for i, (given, right) in enumerate(evidence.pairs()):
        is_matrix = given.ndim == 2 and given.shape[0] == given.shape[1] == right.numel() > 1
        if is_matrix and close(given.diagonal(), right.flatten()):
            shapes = {"shape": tuple(given.shape), "right": tuple(right.shape)}
            yield guess_alone(evidence, i, given, **shapes)


SIMPLE = [
    Hypothesis("zero", "is zero", change_each(torch.zeros_like), Cost.WHOLE),
    Hypothesis("sign", "has the wrong sign", change_each(torch.neg), Cost.WHOLE),
    Hypothesis("leaves swapped",
        "is the gradient of another leaf: {first} and {second} are swapped", _swap, Cost.WHOLE),
    Hypothesis("clipped", "is clipped to [-1, 1]", change_each(lambda right: right.clamp(-1, 1)),
               Cost.ANOTHER),
    Hypothesis("matrix product",
               "is a matrix product, of which only the diagonal is right: shape {shape}, expected "
               "{right}; multiply element by element, then sum", _take_diagonal, Cost.FITTED),
    Hypothesis("partly zero", "is zero {where}, and right elsewhere", _zero_partly, Cost.FITTED),
]  # fmt: skip
