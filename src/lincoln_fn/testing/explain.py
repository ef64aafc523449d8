"""Why a gradient is wrong: the line that made it, or two lines, and how its value differs.

Each value that a line assigns is put in the place of a right gradient, or of a value of forward, in
turn. Where the gradients that backward returns become right by that, the line should have given
it. The first such line is told. Where a line makes the values of later lines right, and not yet
what is returned, it is one of two mistakes, and the rest is looked at with its right value.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import cache

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.diagnosis import close, not_finite, shapes
from lincoln_fn.testing.evidence import Evidence, Known, Run
from lincoln_fn.testing.hypotheses import Mistake, Value, relations
from lincoln_fn.testing.lines import MOST, Place
from lincoln_fn.testing.oracles import allowed
from lincoln_fn.testing.point import NOT_LINEAR

# A longer line is not quoted.
LONGEST = 60
# So often is backward run again, and not for more lines than these.
MOST_RUNS = 60
MOST_LINES = 8_000
# Of two that are as alike up to these digits, the one that is known first is tried first.
DIGITS = 6
NOT_TOLD = Mistake("line", "is not right")
# So many lines before the last wrong one are tried as a first of two mistakes.
MOST_BEFORE = 3
# Two values that differ by a smaller part differ by an eps.
SLIGHTLY = 0.2


@attrs.frozen(eq=False)
class Step:
    """A line of backward that should have given what is known."""

    # None for a gradient that backward returns.
    place: Place | None
    # The number of what is known, and whether its rounds are met in the opposite order.
    which: int
    turned: bool = False
    is_constant: bool = False

    def series(self, evidence: Evidence) -> list[Tensor]:
        """List what the line should have given, in its order."""
        known = self.known(evidence)
        found = known.values if self.is_constant else known.gradients
        return [right.detach() for right in (found[::-1] if self.turned else found)]

    def given(self, run: Run, count: int) -> list[Tensor]:
        """List what it gave: as many values as there should be, the last one if that is one."""
        if self.place is None:
            return [run.given[self.which]]
        values = run.trace.values.get(self.place, [])
        return values[-1:] if count == 1 else values

    def known(self, evidence: Evidence) -> Known:
        """Return what the line should have given."""
        return evidence.known[self.which]

    def describe(self, evidence: Evidence) -> str:
        """Name the line and what it assigns."""
        assert self.place is not None
        place, known = self.place, self.known(evidence)
        is_long = len(place.source) > LONGEST
        what = place.target or ("what it returns" if is_long else f"`{place.source}`")
        role = f"forward's {known.said}" if self.is_constant else f"the gradient of {known.said}"
        return f"line {place.line}: {what}, {role},"


class Runs:
    """Runs of backward, each with one line that gives what it may should have given."""

    def __init__(self, evidence: Evidence) -> None:
        self.evidence = evidence
        self.order = {place: n for n, place in enumerate(evidence.own.trace.values)}
        most = min(MOST_RUNS, MOST_LINES // (1 + sum(evidence.own.trace.counts.values())))
        runs = ((step, run_with(step, evidence)) for step in _candidates(evidence)[:most])
        self.tried = [(step, run) for step, run in runs if run is not None]

    def first(self, i: int) -> Step | None:
        """Find the first line that alone makes a gradient right."""
        expected = self.evidence.expected[i]
        found = [step for step, run in self.tried if close(run.given[i], expected)]
        return min(found, key=self._place, default=None)

    def before(self, i: int, last: Step | None) -> list[tuple[int, Step]]:
        """List lines before the last wrong one, those that make most others right first."""
        end = self._place(last) if last is not None else len(self.order)
        own = self.evidence.own.given[i]
        found = [
            (self._made_right(step, run), step)
            for step, run in self.tried
            if self._place(step) < end and not step.is_constant and not close(run.given[i], own)
        ]
        return sorted(found, key=lambda row: (-row[0], self._place(row[1])))

    def _made_right(self, step: Step, run: Run) -> int:
        """Count the gradients, and the values of other lines, that a right line makes right."""

        def right(run: Run) -> int:
            leaves = zip(run.given, at.expected, strict=True)
            count = sum(close(given, right) for given, right in leaves)
            for place, values in run.trace.values.items():
                if place.target and not place.is_argument and place != step.place:
                    count += any(known.fits(values) for known in at.known)
            return count

        at = self.evidence
        return right(run) - right(at.own)

    def _place(self, step: Step) -> int:
        assert step.place is not None
        return self.order[step.place]


def _candidates(evidence: Evidence) -> list[Step]:
    """List lines with what they may should have given, the likely ones first."""
    ranked: list[tuple[int, float, Step]] = []
    for place, values in evidence.own.trace.values.items():
        called = [k for k in evidence.known if _is_called(place.target, k.name)]
        is_constant = place in evidence.constants and not called
        count, shape = evidence.own.trace.counts[place], values[-1].shape
        # Of forward's values, one that is called as there is right.
        same_name = [k for k in evidence.known if k.name == place.target]
        once = [k for k in called if len(k.gradients) == 1]
        alike = same_name if is_constant else once or evidence.known
        own = [k for k in called if k.calls and k.gradients[0].shape == shape] or evidence.known
        if place.is_argument or any(k.fits(values, of_value=is_constant) for k in alike):
            continue
        for which, k in enumerate(evidence.known):
            series = k.values if is_constant else k.gradients
            may_be_other = place.target.isidentifier() and (k in called or not k.calls)
            if k not in own or len(series) not in (1, count) or (count > MOST and len(series) > 1):
                continue
            is_other = any(s.shape != shape for s in series)
            if is_other and not may_be_other:
                continue
            rank = 0 if k in called else 1 + is_other
            for turned in (True, False) if len(series) > 1 else (False,):
                likeness = _likeness(values[0], series[-1 if turned else 0])
                ranked.append((rank, -likeness, Step(place, which, turned, is_constant)))
    return [step for *_, step in sorted(ranked, key=lambda row: row[:2])]


def _likeness(value: Tensor, right: Tensor) -> float:
    """Return the cosine between two gradients: a wrong one is often like the right one."""
    if value.shape != right.shape or not value.numel():
        return 0.0
    product = abs(float((value * right.detach()).sum()))
    return round(product / (float(value.norm() * right.detach().norm()) or 1.0), DIGITS)


def _is_called(target: str, name: str) -> bool:
    """Return whether a value is called the gradient of another, such as dvar, d_var or grad_var."""
    target = target.rpartition(".")[2]
    return any(target == f"{d}{name}" for d in ("d", "d_", "grad_", "g_", "g"))


def run_with(step: Step, evidence: Evidence) -> Run | None:
    """Run backward with what a line should have given; None if it fails."""
    assert step.place is not None
    series = step.series(evidence)
    count = evidence.own.trace.counts.get(step.place, 1)
    which = range(count) if step.is_constant else [count - 1]
    new = dict(enumerate(series)) if len(series) > 1 else dict.fromkeys(which, series[0])
    return evidence.run(evidence.sample.g, {step.place: new})


def name_mistakes(evidence: Evidence, wrong: Collection[int]) -> dict[int, Mistake]:
    """Say what is wrong with gradients, as far as another draw confirms it."""
    if evidence.is_of_one_call:
        evidence = evidence.for_one()
    found = {i: plain for i in wrong if (plain := _plain(evidence, i))}
    left = [i for i in wrong if i not in found]
    with suppress(Exception):  # what fails in the search costs a sentence, and not the verdict
        found |= Explanation(evidence, left).of_each() if left else {}
    for i in left:
        found.setdefault(i, _unexplained(evidence.sample.given[i], evidence.expected[i], None))
    return found


class Explanation:
    """What the lines of backward say of wrong gradients, as far as all draws agree."""

    def __init__(self, seen: Evidence, wrong: Sequence[int]) -> None:
        # The params of `init`, of 0 and 1, would hide what a term is made of.
        draws = [draw for n in (11, 12) if (draw := seen.again(Key(n))) is not None]
        draws = [draw for draw in draws if not any(map(draw.is_right, wrong))]
        self.seen, self.wrong, self.draws = seen, wrong, [*draws, seen][:2]
        self.runs = Runs(self.draws[0])
        # Several gradients may be wrong by one line.
        self._relation, self._value = cache(self._find), cache(value_of)

    def of_each(self) -> dict[int, Mistake]:
        """Say what is wrong with each gradient."""
        return {i: self._of(i) for i in self.wrong}

    def _of(self, i: int) -> Mistake:
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
            if is_seen or (relation and own and own.sentence != NOT_LINEAR):
                line = self._mistake(own or NOT_TOLD, before, before)
                rest = self._mistake(relation or NOT_TOLD, step, last)
                said = f"{line.sentence}; with that right, it {rest.sentence}"
                return Mistake(rest.name, said)
        if inner is not None:
            return self._mistake(NOT_TOLD, inner, last)
        return _unexplained(self.seen.sample.given[i], self.seen.expected[i], last)

    def _find(self, step: Step, before: Step | None = None) -> Mistake | None:
        """Relate what a line gave to what it should have given, with a line before it right."""
        found = []
        for at in self.draws:
            run = at.own if before is None else run_with(before, at)
            if run is None:
                return None
            found.append(self._relations(at, step, run))
        return _confirmed(found)

    def _relations(self, at: Evidence, step: Step, run: Run) -> Iterator[Mistake]:
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
                if run is at.own or relation.name != "zero":
                    yield relation
            is_linear = all(close(-2 * v, a) for v, a in zip(values, again, strict=False))
            if run is at.own and not is_linear and not at.is_of_one_call:
                yield Mistake("not linear in g", NOT_LINEAR)
        elif float((value - right).abs().max()) <= SLIGHTLY * float(right.abs().max()):
            yield Mistake("eps missing", "differs slightly from it: is an eps missing?")
        else:
            yield Mistake("another value", "is another value")

    def _mistake(self, relation: Mistake, step: Step, last: Step | None) -> Mistake:
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


def _confirmed(draws: Sequence[Iterator[Mistake]]) -> Mistake | None:
    """Return the first relation of a draw that the other draw has, too, if there is one."""
    one, *others = draws
    seen: list[Mistake] = []
    for relation in one:
        while others and relation not in seen and (following := next(others[0], None)):
            seen.append(following)
        if not others or relation in seen:
            return relation
    return None


def _plain(evidence: Evidence, i: int) -> Mistake | None:
    """Name what can be seen of the two gradients alone."""
    given, right, at = evidence.sample.given[i], evidence.expected[i], evidence.sample
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
