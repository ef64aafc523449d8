"""Loops over time: the new state is used where the previous one belongs."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import groups
from lincoln_fn.testing.hypotheses.operands import PRODUCTS, with_factors
from lincoln_fn.testing.tape import Tape


def _new_states(evidence: Evidence) -> Iterator[Guess]:
    """In each round of a loop, multiply by the state that the round made."""
    for tape, calls, _ in groups(evidence):
        if calls[0].name not in PRODUCTS or len(calls) < 2 or len(calls[1].leaves) != 2:
            continue
        for place in (0, 1):
            states = _states(tape, calls, place)
            if len(states) != len(calls):
                continue
            try:
                found = with_factors(tape, calls, place, states)
            except RuntimeError:  # the shapes do not fit
                continue
            yield Guess([*found], {"at": calls[0].name, "code": calls[0].code})


def _states(tape: Tape, calls: Sequence[Call], place: int) -> list[Tensor]:
    """List the states that a loop makes, if one operand of a call is the previous one."""
    operand = calls[1].leaves[place]
    maker = next((c for c in tape.calls if any(out is operand for out in c.outputs)), None)
    if maker is None:
        return []
    return [c.outputs[0] for c in tape.calls if c.position == maker.position]


HYPOTHESES = [
    Hypothesis("new state", "uses the new state where {at}() takes that of the step before",
               _new_states, Cost.OPERATION)
]  # fmt: skip
