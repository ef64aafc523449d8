"""Why a gradient is wrong: the line that made it, or two lines, and how its value differs."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.align import Runs, Step, run_with
from lincoln_fn.testing.contract import not_finite
from lincoln_fn.testing.diagnosis import close, shapes
from lincoln_fn.testing.evidence import Evidence, Run
from lincoln_fn.testing.hypotheses import Relation, relations
from lincoln_fn.testing.oracles import allowed
from lincoln_fn.testing.point import NOT_LINEAR
from lincoln_fn.testing.value import Value

NOT_TOLD: Relation = ("line", "is not right")
# So many lines before the last wrong one are tried as a first of two mistakes.
MOST_BEFORE = 3
# Two values that differ by a smaller part differ by an eps.
SLIGHTLY = 0.2


@attrs.frozen
class Mistake:
    """What is wrong with a gradient."""

    # "" if nothing explains it.
    name: str
    # What follows the name of the gradient.
    sentence: str


def name_mistakes(evidence: Evidence, wrong: Collection[int]) -> dict[int, Mistake]:
    """Say what is wrong with gradients, as far as another draw confirms it."""
    if evidence.is_of_one_call:
        evidence = evidence.for_one()
    found = {i: plain for i in wrong if (plain := _plain(evidence, i))}
    left = [i for i in wrong if i not in found]
    with suppress(Exception):  # what fails in the search costs a sentence, and not the verdict
        found |= _explained(evidence, left) if left else {}
    for i in left:
        found.setdefault(i, _unexplained(evidence.given[i], evidence.expected[i], None))
    return found


def _explained(evidence: Evidence, wrong: list[int]) -> dict[int, Mistake]:
    # The params of `init`, of 0 and 1, would hide what a term is made of.
    draws = [draw for n in (11, 12) if (draw := evidence.again(Key(n))) is not None]
    draws = [d for d in draws if not any(close(d.given[i], d.expected[i]) for i in wrong)]
    explanation = Explanation(evidence, [*draws, evidence][:2])
    return {i: explanation.of(i) for i in wrong}


class Explanation:
    """What the lines of backward say of wrong gradients, as far as all draws agree."""

    def __init__(self, seen: Evidence, draws: Sequence[Evidence]) -> None:
        self.seen, self.draws, self.runs = seen, draws, Runs(draws[0])
        # Several gradients may be wrong by one line.
        self._relation, self._value = cache(self._find), cache(value_of)

    def of(self, i: int) -> Mistake:
        """Say what is wrong with a gradient: by one line, or else by two."""
        last = self.runs.first(i)
        inner = last if last is not None and (last.which != i or last.is_constant) else None
        step = inner or Step(None, i)
        if relation := self._relation(step):
            return self._mistake(relation, step, last)
        for made_right, before in self.runs.before(i, last)[:MOST_BEFORE]:
            relation = self._relation(step, before)
            # In one call, what becomes right may be forward's.
            is_seen = made_right > 0 and not self.seen.is_of_one_call
            own = self._relation(before)
            # Weights that backward updates are not linear in g, and no gradient.
            if is_seen or (relation and own and own[1] != NOT_LINEAR):
                line = self._mistake(own or NOT_TOLD, before, before)
                rest = self._mistake(relation or NOT_TOLD, step, last)
                said = f"{line.sentence}; with that right, it {rest.sentence}"
                return attrs.evolve(rest, sentence=said)
        if inner is not None:
            return self._mistake(NOT_TOLD, inner, last)
        return _unexplained(self.seen.given[i], self.seen.expected[i], last)

    def _find(self, step: Step, before: Step | None = None) -> Relation | None:
        """Relate what a line gave to what it should have given, with a line before it right."""
        found = []
        for at in self.draws:
            run = at.own if before is None else run_with(before, at)
            if run is None:
                return None
            found.append(self._relations(at, step, run))
        return _confirmed(found)

    def _relations(self, at: Evidence, step: Step, run: Run) -> Iterator[Relation]:
        series = step.series(at)
        values, again = (step.given(each, len(series)) for each in (run, at.scaled))
        pairs = list(zip(values, series, strict=False))
        n = next((n for n, pair in enumerate(pairs) if not close(*pair, floor=0.0)), None)
        if n is None:
            return
        value, right = pairs[n]
        if not step.is_constant:
            for relation in relations(self._value(at, step, n), value):
                # What a right line before makes zero is not explained.
                if run is at.own or relation[0] != "zero":
                    yield relation
            is_linear = all(close(-2 * v, a) for v, a in zip(values, again, strict=False))
            if run is at.own and not is_linear and not at.is_of_one_call:
                yield "not linear in g", NOT_LINEAR
        elif float((value - right).abs().max()) <= SLIGHTLY * float(right.abs().max()):
            yield "eps missing", "differs slightly from it: is an eps missing?"
        else:
            yield "another value", "is another value"

    def _mistake(self, relation: Relation, step: Step, last: Step | None) -> Mistake:
        name, said = relation
        if step.place is not None:
            return Mistake(name, f"is wrong by {step.describe(self.draws[0])} {said}")
        is_assigned = last is not None and last.place is not None and bool(last.place.target)
        return Mistake(name, said + (_line(last) if is_assigned else ""))


def value_of(at: Evidence, step: Step, n: int) -> Value:
    """Return what a line should have given in one round of a loop, for it to be compared with."""
    known, right = step.known(at), step.series(at)[n]
    tensor = (known.values[::-1] if step.turned else known.values)[n]
    hand = at.hand if len(known.gradients) == 1 else []
    return Value(at, known, right, tensor if at.tape and tensor.requires_grad else None, hand)


def _confirmed(draws: Sequence[Iterator[Relation]]) -> Relation | None:
    """Return the first relation of a draw that the other draw has, too, if there is one."""
    one, *others = draws
    seen: list[Relation] = []
    for relation in one:
        while others and relation not in seen and (following := next(others[0], None)):
            seen.append(following)
        if not others or relation in seen:
            return relation
    return None


def _plain(evidence: Evidence, i: int) -> Mistake | None:
    """Name what can be seen of the two gradients alone."""
    given, right, at = evidence.given[i], evidence.expected[i], evidence.sample
    if told := not_finite(given):
        return Mistake("not finite", told)
    if right.numel() and not given.numel():
        slices = "a slice such as pad:-pad takes nothing where pad is 0"
        return Mistake("empty slice", f"is empty: {shapes(given, right)}; {slices}")
    is_zero = given.shape == right.shape and not bool(right.any())
    # Behind a dead ReLU the right gradient is zero, too, and the mistake has a name of its own.
    if is_zero and (at.reached is None or at.reached[i] is None):
        return Mistake("forward ignores it", "should be zero: forward does not depend on it")
    return None


def _unexplained(given: Tensor, right: Tensor, step: Step | None) -> Mistake:
    """Say where a gradient is wrong, if nothing says why."""
    is_shape = given.shape == right.shape
    if is_shape and not bool(right.any()):
        return Mistake("forward is flat", "should be zero here: forward does not change near x")
    said = f"has {shapes(given, right)}"
    if is_shape:
        # The worst place counts as wrong, whatever the tolerance.
        wrong = max(1, int(((given - right).abs() > allowed(right)).sum()))
        place = f"most at {list(worst_place(given, right))}"
        said = f"is wrong in {wrong} of {given.numel()} places, {place}: a term is missing or wrong"
    # Here a line says something, even if it is the one that returns.
    return Mistake("line" if step is not None else "", said + _line(step))


def _line(step: Step | None) -> str:
    return f" (line {step.place.line})" if step is not None and step.place is not None else ""


def worst_place(given: Tensor, expected: Tensor) -> tuple[int, ...]:
    """Return the place where two tensors of one shape differ most."""
    worst = (given - expected).abs().nan_to_num(torch.inf).argmax()
    return tuple(int(i) for i in torch.unravel_index(worst, given.shape))
