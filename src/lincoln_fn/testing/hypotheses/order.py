"""Right values in the wrong places, or with the wrong axes."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone


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
            named = f"axis {axes[0]}" if count == 1 else f"axes {', '.join(map(str, axes))}"
            yield Guess(
                [r.flip(axes) if r.ndim > axes[-1] else None for r in evidence.expected],
                {"axes": named},
            )


def _shifted(evidence: Evidence) -> Iterator[Guess]:
    """Move every entry by one or two places, around the end or with zeros behind."""
    for axis in _axes_of(evidence):
        for shift in (1, -1, 2, -2):
            for change in (torch.roll, _pushed):
                yield Guess(
                    [
                        change(r, shift, axis) if r.ndim > axis and r.shape[axis] > 1 else None
                        for r in evidence.expected
                    ],
                    {"shift": shift, "axis": axis},
                )


def _pushed(right: Tensor, shift: int, axis: int) -> Tensor:
    n = right.shape[axis]
    rolled = right.roll(shift, axis).clone()
    empty = (
        rolled.narrow(axis, 0, min(shift, n))
        if shift > 0
        else rolled.narrow(axis, max(n + shift, 0), min(-shift, n))
    )
    empty.zero_()
    return rolled


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
    """Say which shape was given and which was expected.

    Example:
        >>> shapes(torch.zeros(2), torch.zeros(3))
        'shape (2,), expected (3,)'
    """
    return f"shape {tuple(given.shape)}, expected {tuple(right.shape)}"


HYPOTHESES = [
    Hypothesis("transposed", "is transposed{told}", _transposed),
    Hypothesis(
        "another shape", "has the right values in another shape: {shapes}", _in_another_shape
    ),
    Hypothesis("reversed", "is reversed along {axes}", _reversed),
    Hypothesis("shifted", "is shifted by {shift} along axis {axis}", _shifted),
    Hypothesis(
        "reshaped",
        "has the right values in the wrong places: reshaped where it should be transposed?",
        _reshaped,
    ),
    Hypothesis("permuted", "has its axes in the order {axes}", _permuted),
]
LATE = [Hypothesis("wrong places", "has the right values in the wrong places", _sorted)]
