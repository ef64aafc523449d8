"""Cross-entropy on scores: its gradient is s (p - t), for probabilities p and one-hot labels t."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Guess, Hypothesis


def _recognised(z: Tensor, right: Tensor) -> tuple[Tensor, Tensor, Tensor] | None:
    """Find p, t and s of which a gradient is s (p - t)."""
    if z.ndim != 2 or z.shape != right.shape or z.shape[1] < 3:
        return None
    p = torch.softmax(z, 1)
    # Off the label the ratio is s, and the label is where it differs.
    s = (right / p).median(1, keepdim=True).values
    t = p - right / torch.where(s == 0, 1, s)
    is_hot = (t - t.round()).abs().max() < 1e-6 and bool((t.round().sum(1) == 1).all())
    return (p, t.round(), s) if is_hot and bool((s != 0).all()) else None


def _wrong(change: Callable[[Tensor, Tensor, Tensor, Tensor], Tensor]) -> Candidates:
    """Make the candidates from (z, p, t, s)."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        found: list[Tensor | None] = []
        for z, right in zip(evidence.sample.arrays, evidence.expected, strict=True):
            parts = _recognised(z, right)
            found.append(None if parts is None else change(z, *parts))
        yield Guess(found)

    return candidates


def _through_softmax(z: Tensor, p: Tensor, t: Tensor, s: Tensor) -> Tensor:
    d = s * (p - t)
    return p * (d - (d * p).sum(1, keepdim=True))


HYPOTHESES = [
    Hypothesis("one-hot missing", "is p: the path through the label, minus 1 at it, is missing",
               _wrong(lambda z, p, t, s: s * p)),
    Hypothesis("p missing", "has only the label's term: the sum over the classes, p, is missing",
               _wrong(lambda z, p, t, s: -s * t)),
    Hypothesis("scores for probabilities", "uses the scores z for the probabilities p",
               _wrong(lambda z, p, t, s: s * (z - t))),
    Hypothesis("log p for p", "uses log-probabilities for the probabilities p",
               _wrong(lambda z, p, t, s: s * (p.log() - t))),
    Hypothesis("e^z for p", "uses e^z, not normalised, for the probabilities p",
               _wrong(lambda z, p, t, s: s * (z.exp() - t))),
    Hypothesis("label overwritten", "has -1 at the label, where it should be p - 1",
               _wrong(lambda z, p, t, s: s * (p * (1 - t) - t))),
    Hypothesis("gradient by p", "is the gradient by p: the derivative of softmax is missing",
               _wrong(lambda z, p, t, s: -s * t / p)),
    Hypothesis("softmax twice", "applies the derivative of softmax twice",
               _wrong(_through_softmax)),
    Hypothesis("softmax twice", "has the diagonal of softmax's derivative as a further factor",
               _wrong(lambda z, p, t, s: s * (p - t) * p * (1 - p))),
    Hypothesis("label only", "has p - 1 at the label, and zero elsewhere",
               _wrong(lambda z, p, t, s: s * (p - t) * t)),
    Hypothesis("label's sign", "adds 1 at the label, where it should be subtracted",
               _wrong(lambda z, p, t, s: s * (p + t))),
]  # fmt: skip
