"""Mistakes in the derivative of one operation of forward.

Each mistake is a function of one call: from the gradient of its outputs to a wrong gradient of one
input. It is tried at every operation of forward. A mistake in a loop is made in every round, and a
mistake in a formula may concern several calls, so that groups of calls are tried, too.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from itertools import chain, pairwise
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.call import Call
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.hypotheses.hypothesis import Cost, Guess, Hypothesis
from lincoln_fn.testing.hypotheses.roles import name_role
from lincoln_fn.testing.tape import Mistake, Tape

# Above this number of groups, those of one call site alone are tried.
MOST_GROUPS = 150
# Of a line that makes more calls than these, no part is tried alone.
MOST_CALLS = 60
MOST_IN_A_ROUND = 4
BOTH = "the mean and the variance"


@attrs.frozen(eq=False)
class Local:
    """One call in the backward pass, and which of its inputs the mistake is about."""

    tape: Tape
    call: Call
    k: int
    gs: list[Tensor]
    rights: list[Tensor]

    @property
    def g(self) -> Tensor:
        """The gradient of the only output."""
        return self.gs[0]

    @property
    def u(self) -> Tensor:
        """The input."""
        return self.call.inputs[self.k].detach()

    @property
    def v(self) -> Tensor:
        """The only output."""
        return self.call.outputs[0].detach()

    @property
    def right(self) -> Tensor:
        """The right gradient of the input."""
        return self.rights[self.k]

    @property
    def slope(self) -> Tensor:
        """The gradient of the input for g = 1: the derivative of a function of one number."""
        return self.call.vjp([torch.ones_like(g) for g in self.gs])[self.k]

    def at(self, u: Tensor) -> Tensor:
        """Compute the gradient of the input as if its value were another."""
        values = [value.detach() for value in self.call.inputs]
        values[self.k] = u
        return self.call.vjp(self.gs, values)[self.k]


Wrong: TypeAlias = Callable[[Local], Tensor | None]
Group: TypeAlias = tuple[Tape, Sequence[Call], str]


def local(
    name: str,
    sentence: str,
    wrong: Wrong,
    *,
    # The names of torch's functions at which it may be made; () for all.
    only: Sequence[str] = (),
    # Whether it may be made in several different calls at once.
    grouped: bool = False,
    cost: Cost = Cost.OPERATION,
) -> Hypothesis:
    """Make the hypothesis of a mistake in the derivative of an operation."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        for tape, calls, at in list_groups(evidence, grouped):
            if only and calls[0].name not in only:
                continue
            for place in sorted({place for call in calls for place in call.tracked}):
                found = _try_mistake(tape, calls, place, wrong)
                if found is not None:
                    yield Guess([*found], partial(describe, tape, calls, at))

    return Hypothesis(name, sentence, candidates, cost)


def make_table(*rows: tuple[str, str, Wrong, Sequence[str]]) -> list[Hypothesis]:
    """Make the hypotheses of rows of (name, sentence, wrong, only)."""
    return [local(name, sentence, wrong, only=only) for name, sentence, wrong, only in rows]


def _try_mistake(
    tape: Tape, calls: Sequence[Call], place: int, wrong: Wrong
) -> list[Tensor] | None:
    made = 0

    def mistake(call: Call, gs: list[Tensor], right: list[Tensor]) -> list[Tensor | None]:
        nonlocal made
        changed: list[Tensor | None] = [None] * len(call.tracked)
        # The first step of a loop may have a constant in this place.
        if place in call.tracked:
            k = call.tracked.index(place)
            guess = wrong(Local(tape, call, k, gs, right))
            if guess is not None and guess.shape == call.inputs[k].shape:
                changed[k] = guess
                made += 1
        return changed

    found = attempt(tape, calls, mistake)
    return found if made else None


def guesses_if(
    tape: Tape, calls: Sequence[Call], mistake: Mistake, **words: object
) -> Iterator[Guess]:
    """Make the guess of a mistake at some calls, if it is possible there."""
    found = attempt(tape, calls, mistake)
    if found is not None:
        yield Guess([*found], {"at": calls[0].name, "code": calls[0].code, **words})


def attempt(tape: Tape, calls: Sequence[Call], mistake: Mistake) -> list[Tensor] | None:
    """Compute the gradients with a mistake at some calls; None if it is not possible there."""
    try:
        return tape.gradients_if(calls, mistake)
    except (RuntimeError, TypeError, ValueError, IndexError):  # shapes or types do not fit
        return None


def list_groups(evidence: Evidence, grouped: bool = False) -> list[Group]:
    """List the calls that a mistake may be made at, as one: by place, and by what they compute."""
    found = evidence.remembered.get(("groups", grouped))
    if found is None:
        # A mistake in a statistic is said to be there, not in the square that is averaged.
        found = sorted(
            _gather_groups(evidence, grouped), key=lambda group: not _is_statistic(group)
        )
        evidence.remembered["groups", grouped] = found
    return found


def _is_statistic(group: Group) -> bool:
    tape, calls, _ = group
    return name_role(tape, calls[0]) in ("mean", "variance")


def _gather_groups(evidence: Evidence, grouped: bool) -> Iterator[Group]:
    seen: set[tuple[int, ...]] = set()
    for tape in evidence.tapes:
        sites = _gather(tape, lambda call: (call.name, call.position))
        found = [*sites, *chain(*(_divide_by_turns(tape, calls) for calls in sites))]
        both: list[Call] = []
        if grouped and len(found) < MOST_GROUPS:
            found += _gather(tape, lambda call: (call.name, call.position[:1]))
            found += _gather(tape, partial(_name_role, tape))
            found += _gather(tape, lambda call: call.name)
            both = [call for call in tape.calls if name_role(tape, call) in ("mean", "variance")]
            found.append(both)
        for calls in found:
            which = tuple(map(id, calls))
            if calls and which not in seen:
                seen.add(which)
                yield tape, calls, BOTH if calls is both else calls[0].name


def _name_role(tape: Tape, call: Call) -> tuple[str, str]:
    return call.name, name_role(tape, call)


def _gather(tape: Tape, key: Callable[[Call], object]) -> list[list[Call]]:
    found: dict[object, list[Call]] = {}
    for call in tape.calls:
        found.setdefault(key(call), []).append(call)
    return [*found.values()]


def _divide_by_turns(tape: Tape, calls: list[Call]) -> list[list[Call]]:
    """Divide the calls of one line that makes several in each round: `map(sigmoid, gates)`."""
    if not 1 < len(calls) <= MOST_CALLS:
        return []
    first = calls[: MOST_IN_A_ROUND + 1]
    later = (n for n, call in enumerate(first) if n and tape.depends(calls[0], call))
    count = next(later, len(calls))
    return [calls[n::count] for n in range(count)] if 1 < count <= MOST_IN_A_ROUND else []


def describe(tape: Tape, calls: Sequence[Call], at: str) -> dict[str, object]:
    """Describe the place of a mistake: its other factor, or time."""
    call = calls[0]
    kind = name_role(tape, call)
    what = at if at == BOTH else f"the {kind}" if kind in ("mean", "variance") else f"{call.name}()"
    same = all(later.position == call.position for later in calls)
    is_loop = same and any(tape.depends(a, b) for a, b in pairwise(calls))
    path = f"the path through time, by {call.name}()" if is_loop else f"the path through {what}"
    factors = {*map(_name_factor, calls)}
    factor = factors.pop() if len(factors) == 1 else "other factor"
    code = call.code if same else ""
    return {"at": at, "what": what, "path": path, "factor": factor, "code": code}


def _name_factor(call: Call) -> str:
    """Name the factor that a product or a quotient brings, if it is one number."""
    others = [
        leaf
        for i, leaf in enumerate(call.leaves)
        if i not in call.tracked and isinstance(leaf, float | int | Tensor)
    ]
    if call.name in ("mul", "div") and len(others) == 1:
        values = torch.as_tensor(others[0]).flatten()
        if values.numel() and bool((values == values[0]).all()):
            return f"factor {'' if call.name == 'mul' else '1/'}{values[0].item():.6g}"
    return "other factor"
