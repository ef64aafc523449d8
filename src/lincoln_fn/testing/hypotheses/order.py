"""Right values in the wrong places, or with the wrong axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis, alone


def _axes_of(evidence: Evidence) -> range:
    return range(max((right.ndim for right in evidence.expected), default=0))


def _transposed(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if right.ndim >= 2:
            told = "" if given.shape == right.shape else f": {shapes(given, right)}"
            yield alone(evidence, i, right.mT, told=told)


def _permuted(evidence: Evidence) -> Iterator[Guess]:
    for i, right in enumerate(evidence.expected):
        for axes in permutations(range(right.ndim)) if 2 < right.ndim < 6 else ():
            yield alone(evidence, i, right.permute(axes), axes=axes)


def _reversed(evidence: Evidence) -> Iterator[Guess]:
    for count in (1, 2, 3):
        for axes in combinations(_axes_of(evidence), count):
            found = [r.flip(axes) if r.ndim > axes[-1] else None for r in evidence.expected]
            yield Guess([*found], {"axes": named_axes(axes)})


def _shifted(evidence: Evidence) -> Iterator[Guess]:
    """Move every entry by one or two places, around the end or with zeros behind."""
    for axis in _axes_of(evidence):
        for shift in (1, -1, 2, -2):
            for change in (_rolled, _pushed):
                found = [
                    change(r, shift, axis) if r.ndim > axis and r.shape[axis] > 1 else None
                    for r in evidence.expected
                ]
                yield Guess([*found], {"shift": shift, "axis": axis})


def _rolled(right: Tensor, shift: int, axis: int) -> Tensor:
    return right.roll(shift, axis)


def _pushed(right: Tensor, shift: int, axis: int) -> Tensor:
    n = right.shape[axis]
    moved, count = right.roll(shift, axis).clone(), min(abs(shift), n)
    moved.narrow(axis, 0 if shift > 0 else n - count, count).zero_()
    return moved


def _reshaped(evidence: Evidence) -> Iterator[Guess]:
    """Reshape where axes should be exchanged."""
    for i, right in enumerate(evidence.expected):
        for axes in permutations(range(right.ndim)) if 1 < right.ndim < 5 else ():
            yield alone(evidence, i, right.permute(axes).reshape(right.shape))


def _in_another_shape(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape and given.numel() == right.numel():
            yield alone(evidence, i, right.reshape(given.shape), shapes=shapes(given, right))


def _sorted(evidence: Evidence) -> Iterator[Guess]:
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape == right.shape and right.numel() > 2:
            ranks = given.flatten().argsort().argsort()
            yield alone(evidence, i, right.flatten().sort().values[ranks].view(right.shape))


def shapes(given: Tensor, right: Tensor) -> str:
    """Say which shape was given and which was expected."""
    return f"shape {tuple(given.shape)}, expected {tuple(right.shape)}"


def named_axes(axes: tuple[int, ...]) -> str:
    """Say which axes: "axis 1", "axes 0, 2" or "no axis"."""
    if not axes:
        return "no axis"
    return f"axis {axes[0]}" if len(axes) == 1 else f"axes {', '.join(map(str, axes))}"


_PLACES = "has the right values in the wrong places"
HYPOTHESES = [
    Hypothesis("transposed", "is transposed{told}", _transposed, Cost.PLACES),
    Hypothesis("another shape", "has the right values in another shape: {shapes}",
               _in_another_shape, Cost.PLACES),
    Hypothesis("reversed", "is reversed along {axes}", _reversed, Cost.PLACES),
    Hypothesis("shifted", "is shifted by {shift} along axis {axis}", _shifted, Cost.PLACES),
    Hypothesis("reshaped", f"{_PLACES}: reshaped where it should be transposed?", _reshaped,
               Cost.PLACES),
    Hypothesis("permuted", "has its axes in the order {axes}", _permuted, Cost.PLACES),
    Hypothesis("wrong places", _PLACES, _sorted, Cost.FITTED),
]  # fmt: skip
