"""Of the Jacobian, only a part: its diagonal, or some places."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone

# The diagonal takes one backward pass for each element.
LARGEST = 400


def _diagonal(evidence: Evidence) -> Iterator[Guess]:
    """Keep of the Jacobian of an array only its diagonal, y_i by x_i."""
    found: list[Tensor | None] = []
    for i, array in enumerate(evidence.sample.arrays):
        g = evidence.g[0] if len(evidence.g) == 1 else None
        if g is None or array.shape != g.shape or g.numel() > LARGEST:
            found.append(None)
            continue
        entries = []
        for j, value in enumerate(g.flatten()):
            one = torch.zeros_like(g).flatten()
            one[j] = value
            rows = evidence.gradients(g=one.view(g.shape))
            entries.append(rows[i].flatten()[j] if rows else torch.nan * value)
        found.append(torch.stack(entries).view(g.shape) if entries else None)
    yield Guess(found)


def _partly_zero(evidence: Evidence) -> Iterator[Guess]:
    """Keep the right gradient at some places; the others are zero."""
    for i, (given, right) in enumerate(evidence.pairs()):
        if given.shape != right.shape or not right.numel():
            continue
        is_zero = (given == 0) & (right != 0)
        count = int(is_zero.sum())
        if count and count < right.numel():
            where = _described(is_zero, count)
            yield alone(evidence, i, torch.where(is_zero, 0, right), where=where)


def _described(is_zero: Tensor, count: int) -> str:
    """Say where a gradient is zero: along one axis if that tells it, else how often."""
    for axis in range(is_zero.ndim):
        rows = is_zero.movedim(axis, 0).reshape(is_zero.shape[axis], -1).all(1)
        rest = is_zero.movedim(axis, 0)[~rows]
        if bool(rows.any()) and not bool(rest.any()):
            listed = ", ".join(str(n) for n in rows.nonzero().flatten().tolist()[:5])
            return f"at positions {listed} of axis {axis}"
    return f"in {count} of {is_zero.numel()} places"


HYPOTHESES = [
    Hypothesis(
        "diagonal",
        "has only the diagonal of the Jacobian: each x also changes the other y",
        _diagonal,
    ),
]
LATE = [
    Hypothesis("partly zero", "is zero {where}, and right elsewhere", _partly_zero),
]
