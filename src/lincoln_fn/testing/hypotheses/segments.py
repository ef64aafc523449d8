"""The derivative of several operations together is missing: g is passed on as it is."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.operands import list_series
from lincoln_fn.testing.tape import Tape

# Each candidate takes two backward passes for each round.
MOST_PASSES = 600


def _pass_on(evidence: Evidence) -> Iterator[Guess]:
    passes = 0
    for tape in evidence.tapes[:1]:
        rounds = max(map(len, tape.sites.values()), default=0)
        known = list_series(evidence, tape, rounds)
        for n, output in enumerate(known):
            for start in known[:n]:
                count = len(output.tensors)
                shape = output.tensors[0].shape
                if count != len(start.tensors) or start.tensors[0].shape != shape:
                    continue
                passes += 2 * count
                if passes > MOST_PASSES:
                    return
                found = _skip(tape, output.tensors, start.tensors)
                if found is not None:
                    yield Guess([*found], {"output": output.words, "start": start.words})


def _skip(tape: Tape, outputs: Sequence[Tensor], starts: Sequence[Tensor]) -> list[Tensor] | None:
    """Pass the gradient of each output on to its start, in place of what flows there."""
    sources: list[Tensor] = []
    more: list[Tensor] = []
    for v, u in reversed(list(zip(outputs, starts, strict=True))):
        if not (u.requires_grad and v.requires_grad):
            return None
        (d,) = tape.flow([*tape.outputs, *sources], [*tape.cotangents, *more], [v])
        (du,) = tape.flow([v], [d], [u])
        if not bool(du.any()):
            return None  # v does not depend on u
        sources.append(u)
        more.append(d - du)
    return tape.gradients_with(sources, more)


HYPOTHESES = [
    Hypothesis(
        "derivative missing",
        "passes the gradient of {output} on to {start} unchanged: the derivative is missing",
        _pass_on,
        Cost.FITTED,
    )
]
