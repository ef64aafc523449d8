"""A function of several gates at once, whose derivative is wrong for one of them.

i, f, o = torch.sigmoid(a).chunk(3, -1)
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.derivatives import FORMULAS, is_function
from lincoln_fn.testing.hypotheses.hypothesis import Candidates, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, groups
from lincoln_fn.testing.tape import Tape


def _in_one_part(wrong: Callable[[Local], Tensor]) -> Candidates:
    """Make the candidates for one part of a function's output."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        for tape, calls, at in groups(evidence, grouped=False):
            for part, mask in enumerate(_parts(tape, calls[0])):

                def mistake(
                    call: Call, gs: list[Tensor], tape: Tape = tape, mask: Tensor = mask
                ) -> list[Tensor | None]:
                    at_call = Local(tape, call, 0, gs)
                    return [torch.where(mask, wrong(at_call), at_call.right)]

                found = tape.gradients_if(calls, mistake)
                yield Guess([*found], {"at": at, "part": part, "code": calls[0].code})

    return candidates


def _parts(tape: Tape, call: Call) -> list[Tensor]:
    """Mark the places of the parts that a function's output is divided into."""
    if not is_function(Local(tape, call, 0, [])):
        return []
    (v,) = call.outputs
    division = next((c for c in tape.calls if len(c.outputs) > 1 and c.inputs[0] is v), None)
    if division is None:
        return []
    zeros = [torch.zeros_like(output) for output in division.outputs]
    return [
        division.vjp([*zeros[:n], torch.ones_like(zeros[n]), *zeros[n + 1 :]])[0] != 0
        for n in range(len(zeros))
    ]


_WRONG: list[tuple[str, str, Callable[[Local], Tensor]]] = [
    ("derivative missing", "lacks the derivative", lambda call: call.g),
    ("sign", "has the wrong sign in the derivative", lambda call: -call.right),
    ("path missing", "misses the path", lambda call: torch.zeros_like(call.u)),
    *(
        (
            "another formula",
            f"has {words} in place of the derivative",
            lambda call, of=of: call.g * of(call.u, call.v),
        )
        for words, of in FORMULAS.items()
    ),
]
HYPOTHESES = [
    Hypothesis(name, f"{what} of {{at}}() in part {{part}} of its output", _in_one_part(wrong))
    for name, what, wrong in _WRONG
]
