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
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.oracles import allowed, is_reached
from lincoln_fn.testing.relations import Relation
from lincoln_fn.testing.search import Search

NOT_TOLD: Relation = ("line", "is not right")
# So many lines before the last wrong one are tried as a first of two mistakes.
MOST_BEFORE = 3


@attrs.frozen
class Mistake:
    """What is wrong with a gradient."""

    # "" if nothing explains it.
    name: str
    # What follows the name of the gradient.
    sentence: str


def name_mistakes(evidence: Evidence, wrong: Collection[int]) -> dict[int, Mistake]:
    """Say what is wrong with gradients, as far as another draw confirms it."""
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
    first, again = [*draws, evidence, None][:2] if draws else (evidence, None)
    assert first is not None
    searches = [Search(each) for each in (first, again) if each]
    explanation = Explanation(evidence, Runs(first), searches)
    return {i: explanation.of(i) for i in wrong}


class Explanation:
    """What the lines of backward say of wrong gradients, as far as all draws agree."""

    def __init__(self, seen: Evidence, runs: Runs, searches: Sequence[Search]) -> None:
        self.seen, self.runs, self.searches = seen, runs, searches
        # Several gradients may be wrong by one line.
        self._relation = cache(self._find)

    def of(self, i: int) -> Mistake:
        """Say what is wrong with a gradient: by one line, or else by two."""
        last = self.runs.first(i)
        inner = last if last is not None and (last.which != i or last.is_constant) else None
        what = i if inner is None else inner
        if relation := self._relation(what):
            return self._mistake(relation, inner, last)
        for made_right, step in self.runs.before(i, last)[:MOST_BEFORE]:
            relation = self._relation(what, step)
            if made_right or (relation and self._relation(step, in_pairs=False)):
                rest = self._mistake(relation or NOT_TOLD, inner, last)
                said = f"is wrong by {self._line(step)}; with that right, it {rest.sentence}"
                return attrs.evolve(rest, sentence=said)
        if inner is not None:
            return self._mistake(NOT_TOLD, inner, last)
        return _unexplained(self.seen.given[i], self.seen.expected[i], last)

    def _find(
        self, what: int | Step, before: Step | None = None, *, in_pairs: bool = True
    ) -> Relation | None:
        """Relate a gradient, or a line's value, to what it should be, with a line before right."""
        found = []
        for search in self.searches:
            at = search.evidence
            run = at.own if before is None else run_with(before, at)
            if run is None:
                return None
            is_first = before is None and in_pairs
            if isinstance(what, int):
                found.append(search.of_leaf(what, run, is_first=is_first))
            else:
                found.append(search.of_step(what, run, is_first=is_first))
        return _confirmed(found)

    def _mistake(self, relation: Relation, inner: Step | None, last: Step | None) -> Mistake:
        name, said = relation
        if inner is not None:
            return Mistake(name, f"is wrong by {inner.describe(self.runs.evidence)} {said}")
        return Mistake(name, said + (_line(last) if last is not None and last.place.target else ""))

    def _line(self, step: Step) -> str:
        """Say what a line gives, and what it should give."""
        relation = self._relation(step, in_pairs=False) or NOT_TOLD
        return f"{step.describe(self.runs.evidence)} {relation[1]}"


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
        shapes = f"shape {tuple(given.shape)}, expected {tuple(right.shape)}"
        slices = "a slice such as pad:-pad takes nothing where pad is 0"
        return Mistake("empty slice", f"is empty: {shapes}; {slices}")
    is_zero = given.shape == right.shape and not bool(right.any())
    # Behind a dead ReLU the right gradient is zero, too, and the mistake has a name of its own.
    if is_zero and not is_reached(at.forward, at.arrays, i, at.g):
        return Mistake("forward ignores it", "should be zero: forward does not depend on it")
    return None


def _unexplained(given: Tensor, right: Tensor, step: Step | None) -> Mistake:
    """Say where a gradient is wrong, if nothing says why."""
    is_shape = given.shape == right.shape
    if is_shape and not bool(right.any()):
        return Mistake("forward is flat", "should be zero here: forward does not change near x")
    said = f"has shape {tuple(given.shape)}, expected {tuple(right.shape)}"
    if is_shape:
        # The worst place counts as wrong, whatever the tolerance.
        wrong = max(1, int(((given - right).abs() > allowed(right)).sum()))
        place = f"most at {list(worst_place(given, right))}"
        said = f"is wrong in {wrong} of {given.numel()} places, {place}: a term is missing or wrong"
    # Here a line says something, even if it is the one that returns.
    return Mistake("line" if step is not None else "", said + _line(step))


def _line(step: Step | None) -> str:
    return f" (line {step.place.line})" if step is not None else ""


def worst_place(given: Tensor, expected: Tensor) -> tuple[int, ...]:
    """Return the place where two tensors of one shape differ most."""
    worst = (given - expected).abs().nan_to_num(torch.inf).argmax()
    return tuple(int(i) for i in torch.unravel_index(worst, given.shape))
