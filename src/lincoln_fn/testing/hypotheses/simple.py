"""Mistakes that need no knowledge of the layer: a sign, leaves exchanged."""

from __future__ import annotations

from collections.abc import Iterator

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


HYPOTHESES = [
    Hypothesis("zero", "is zero", change_each(torch.zeros_like), Cost.WHOLE),
    Hypothesis("sign", "has the wrong sign", change_each(torch.neg), Cost.WHOLE),
    Hypothesis("leaves swapped",
               "is the gradient of another leaf: {first} and {second} are swapped", _swap,
               Cost.WHOLE),
    Hypothesis("clipped", "is clipped to [-1, 1]", change_each(lambda right: right.clamp(-1, 1)),
               Cost.ANOTHER),
    Hypothesis("matrix product",
               "is a matrix product, of which only the diagonal is right: shape {shape}, expected "
               "{right}; multiply element by element, then sum", _take_diagonal, Cost.FITTED),
    Hypothesis("partly zero", "is zero {where}, and right elsewhere", _zero_partly, Cost.FITTED),
]  # fmt: skip
