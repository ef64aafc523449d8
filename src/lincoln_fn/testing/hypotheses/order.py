"""Right values in the wrong places, or with the wrong axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, guess_alone


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
