"""One path of the gradient is multiplied by a number that does not belong there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis, alone
from lincoln_fn.testing.hypotheses.local import groups, words
from lincoln_fn.testing.tape import Tape

# One number is found from the submitted gradient, so that fewer places tell nothing.
FEWEST = 4


def _multiplied(evidence: Evidence) -> Iterator[Guess]:
    """Find the number by which what flows through some calls is multiplied."""
    for tape, calls, at in groups(evidence, grouped=True):
        for place in sorted({place for call in calls for place in call.tracked}):
            parts = _parts(tape, calls, place, evidence.expected)
            for i, (given, right) in enumerate(evidence.pairs()):
                if given.shape != right.shape or right.numel() < FEWEST:
                    continue
                size = parts[i].square().sum()
                if not bool(size > 0):
                    continue
                more = float(((given - right) * parts[i]).sum() / size)
                said = {**words(tape, calls, at), "factor": f"{1 + more:.6g}"}
                yield alone(evidence, i, right + more * parts[i], **said)


def _parts(tape: Tape, calls: Sequence[Call], place: int, right: list[Tensor]) -> list[Tensor]:
    """Compute the part of each gradient that flows through one input of some calls."""

    def cut(call: Call, gs: list[Tensor]) -> list[Tensor | None]:
        return [
            torch.zeros_like(u) if position == place else None
            for u, position in zip(call.inputs, call.tracked, strict=True)
        ]

    without = tape.gradients_if(calls, cut)
    return [whole - rest for whole, rest in zip(right, without, strict=True)]


HYPOTHESES = [
    Hypothesis("factor of a path", "has {path} multiplied by {factor}", _multiplied),
]
