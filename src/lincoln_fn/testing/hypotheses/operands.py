"""A product's gradient takes another tensor of forward, or g passes some operations unchanged."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.derivatives import BY_OUTPUT, is_function
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.local import Local, guesses_if, list_groups
from lincoln_fn.testing.tape import Mistake, Tape

# From a call, its g, and the tensor that is used, the gradient of its input.
Way: TypeAlias = Callable[[Call, Tensor, Tensor], Tensor]
PRODUCTS = ("mul", "matmul")
# Each candidate takes one backward pass for each call.
MOST_PASSES = 1200


@attrs.frozen(eq=False)
class Series:
    """One tensor of forward, or one for each round of a loop; and what it is, in words."""

    tensors: Sequence[Tensor]
    words: str


def _take_operand(evidence: Evidence, *, new_state: bool) -> Iterator[Guess]:
    """Take another tensor for one factor; or, in a loop, the state that the round made."""
    passes = 0
    for tape, calls, at in list_groups(evidence):
        if at not in PRODUCTS or any(len(call.leaves) != 2 for call in calls):
            continue
        known = list_series(evidence, tape, len(calls))
        for place in (0, 1):
            right = [call.leaves[place] for call in calls]
            # A constant, such as a label, may be anything.
            if not any(place in call.tracked for call in calls):
                continue
            for another in known:
                used = list(another.tensors) * (len(calls) // len(another.tensors))
                if any(a is b or not _fits(a, b) for a, b in zip(used, right, strict=True)):
                    continue
                later = zip(used, right[1:], strict=False)
                if new_state != (len(used) > 1 and all(a is b for a, b in later)):
                    continue
                passes += len(calls)
                if passes > MOST_PASSES:
                    return
                said = {"wrong": another.words, "right": _describe(known, right)}
                yield from guesses_if(tape, calls, _replace_factors(calls, place, used), **said)


def _fits(used: Tensor, right: object) -> bool:
    return isinstance(right, Tensor) and used.shape == right.shape


def _replace_factors(calls: Sequence[Call], place: int, used: Sequence[Tensor]) -> Mistake:
    """Put other tensors in the place of one factor of products."""
    of = dict(zip(map(id, calls), used, strict=True))

    def mistake(call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor | None]:
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

    return mistake


def _take_input(evidence: Evidence) -> Iterator[Guess]:
    """Take the derivative of a function at another tensor of forward."""
    passes = 0
    for tape, calls, at in list_groups(evidence):
        if not is_function(Local(tape, calls[0], 0, [], [])):
            continue
        for other in list_series(evidence, tape, len(calls)):
            used = list(other.tensors) * (len(calls) // len(other.tensors))
            # Its own input is right, and its output is tried before.
            if used[-1].shape != calls[-1].inputs[0].shape or used[-1] is calls[-1].inputs[0]:
                continue
            passes += len(calls)
            if passes > MOST_PASSES:
                return
            of = dict(zip(map(id, calls), used, strict=True))
            ways: list[tuple[Way, str]] = [(_differentiate_at, "input")]
            if at in BY_OUTPUT:
                ways.append((_differentiate_by_output, "output"))
            for way, what in ways:

                def mistake(
                    call: Call, gs: list[Tensor], right: list[Tensor],
                    way: Way = way, of: dict[int, Tensor] = of,
                ) -> list[Tensor]:  # fmt: skip
                    return [way(call, gs[0], of[id(call)].detach())]

                yield from guesses_if(tape, calls, mistake, wrong=other.words, what=what)


def _differentiate_at(call: Call, g: Tensor, value: Tensor) -> Tensor:
    return call.vjp([g], [value])[0]


def _differentiate_by_output(call: Call, g: Tensor, value: Tensor) -> Tensor:
    return g * BY_OUTPUT[call.name](value)


def list_series(evidence: Evidence, tape: Tape, rounds: int) -> list[Series]:
    """List the tensors of forward that are made once, or once in each round."""
    names = evidence.sample.names
    found = [
        Series([array], name.removeprefix("d"))
        for name, array in zip(names, tape.arrays, strict=True)
    ]
    for calls in tape.sites.values():
        if len(calls) not in (1, rounds):
            continue
        for n in range(len(calls[0].outputs)):
            number = f" number {n}" if len(calls[0].outputs) > 1 else ""
            tensors = [call.outputs[n] for call in calls if n < len(call.outputs)]
            if len(tensors) == len(calls):
                code = f"`{calls[0].code}`" if calls[0].code and not number else ""
                found.append(Series(tensors, code or f"the output{number} of {calls[0].name}()"))
        states = zip(*(call.leaves for call in calls), strict=False) if rounds > 1 else ()
        # What is a constant in the first step and made by the others is a state.
        found += [
            Series(state, "the state of the step before")
            for state in states
            if all(isinstance(tensor, Tensor) for tensor in state)
            and [tensor.requires_grad for tensor in state] == [False] + [True] * (rounds - 1)
        ]
    return found


def _describe(known: list[Series], right: list[Tensor]) -> str:
    pairs = chain.from_iterable(((t, each.words) for t in each.tensors) for each in known)
    return next((words for tensor, words in pairs if tensor is right[-1]), "the other factor")


HYPOTHESES = [
    Hypothesis("new state", "uses the new state where {at}() takes that of the step before",
               partial(_take_operand, new_state=True), Cost.OPERATION),
    Hypothesis("another factor", "takes {wrong} in place of {right} in the derivative of {at}()",
               partial(_take_operand, new_state=False), Cost.OPERAND),
    Hypothesis("at other values",
               "takes the derivative of {at}() at {wrong}, not at its own {what}", _take_input,
               Cost.OPERAND),
]  # fmt: skip


# Each candidate takes two backward passes for each round.
MOST_SKIPPED = 600


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
                if passes > MOST_SKIPPED:
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


SEGMENTS = [
    Hypothesis("derivative missing",
        "passes the gradient of {output} on to {start} unchanged: the derivative is missing",
        _pass_on, Cost.FITTED),
]  # fmt: skip
