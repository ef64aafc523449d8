"""A product's gradient takes another tensor of forward than the other factor."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

import attrs
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import groups
from lincoln_fn.testing.tape import Tape

PRODUCTS = ("mul", "matmul")
# Each candidate takes one backward pass for each call.
MOST_PASSES = 1200


@attrs.frozen(eq=False)
class Series:
    """One tensor of forward, or one for each round of a loop.

    Args:
        tensors: one, or as many as there are rounds.
        words: what it is.
    """

    tensors: Sequence[Tensor]
    words: str


def _another_operand(evidence: Evidence) -> Iterator[Guess]:
    passes = 0
    for tape, calls, at in groups(evidence, grouped=False):
        if at not in PRODUCTS or any(len(call.leaves) != 2 for call in calls):
            continue
        known = _series(evidence, tape, len(calls))
        for place in (0, 1):
            right = [call.leaves[place] for call in calls]
            # A constant, such as a label, may be anything.
            if not all(place in call.tracked for call in calls):
                continue
            for series in known:
                used = list(series.tensors) * (len(calls) // len(series.tensors))
                if any(a is b or a.shape != b.shape for a, b in zip(used, right, strict=True)):
                    continue
                passes += len(calls)
                if passes > MOST_PASSES:
                    return
                found = with_factors(tape, calls, place, used)
                yield Guess(
                    [*found],
                    {
                        "at": at,
                        "code": calls[0].code,
                        "wrong": series.words,
                        "right": _described(known, right),
                    },
                )


def with_factors(
    tape: Tape, calls: Sequence[Call], place: int, used: Sequence[Tensor]
) -> list[Tensor]:
    """Compute the gradients with other tensors in the place of one factor of products."""
    of = dict(zip(map(id, calls), used, strict=True))

    def mistake(call: Call, gs: list[Tensor]) -> list[Tensor | None]:
        wrong: list[Tensor | None] = [None] * len(call.tracked)
        if 1 - place in call.tracked:
            k = call.tracked.index(1 - place)
            factor, g = of[id(call)].detach(), gs[0]
            if call.name == "mul":
                product = g * factor
            else:
                product = factor.mT @ g if place == 0 else g @ factor.mT
            wrong[k] = product.sum_to_size(call.inputs[k].shape)
        return wrong

    return tape.gradients_if(calls, mistake)


def _series(evidence: Evidence, tape: Tape, rounds: int) -> list[Series]:
    """List the tensors of forward that are made once, or once in each round."""
    names = evidence.sample.names
    found = [
        Series([array], name.removeprefix("d"))
        for name, array in zip(names, tape.arrays, strict=True)
    ]
    made: dict[object, list[Call]] = {}
    for call in tape.calls:
        made.setdefault(call.position, []).append(call)
    for calls in made.values():
        if len(calls) not in (1, rounds):
            continue
        for n in range(len(calls[0].outputs)):
            number = f" number {n}" if len(calls[0].outputs) > 1 else ""
            tensors = [call.outputs[n] for call in calls if n < len(call.outputs)]
            if len(tensors) == len(calls):
                code = f"`{calls[0].code}`" if calls[0].code and not number else ""
                found.append(Series(tensors, code or f"the output{number} of {calls[0].name}()"))
    return found


def _described(known: list[Series], right: list[Tensor]) -> str:
    pairs = chain.from_iterable(((t, series.words) for t in series.tensors) for series in known)
    return next((words for tensor, words in pairs if tensor is right[-1]), "the other factor")


def _both_own(evidence: Evidence) -> Iterator[Guess]:
    """Multiply the gradient of each factor by the factor itself."""
    for tape, calls, at in groups(evidence, grouped=False):
        if at != "mul" or any(len(call.tracked) != 2 for call in calls):
            continue

        def own(call: Call, gs: list[Tensor]) -> list[Tensor | None]:
            return [(gs[0] * u.detach()).sum_to_size(u.shape) for u in call.inputs]

        yield Guess([*tape.gradients_if(calls, own)], {"at": at, "code": calls[0].code})


HYPOTHESES = [
    Hypothesis(
        "factors exchanged", "multiplies each factor of {at}() by itself, not by the other",
        _both_own,
    ),
    Hypothesis(
        "another factor",
        "takes {wrong} in place of {right} in the derivative of {at}()",
        _another_operand,
    ),
]  # fmt: skip
