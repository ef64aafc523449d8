"""The mistakes in wrong gradients: the line that made them, and how they differ."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key
from lincoln_fn.testing.align import Step, find_steps
from lincoln_fn.testing.contract import not_finite
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.oracles import allowed, is_reached
from lincoln_fn.testing.relations import Relation
from lincoln_fn.testing.search import Search


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
        found |= _told(evidence, left) if left else {}
    for i in left:
        found.setdefault(i, _unexplained(evidence.given[i], evidence.expected[i], None))
    return found


def _told(evidence: Evidence, wrong: list[int]) -> dict[int, Mistake]:
    # The params of `init`, of 0 and 1, would hide what a term is made of.
    draws = [draw for n in (11, 12) if (draw := evidence.again(Key(n))) is not None]
    draws = [d for d in draws if not any(close(d.given[i], d.expected[i]) for i in wrong)]
    first, again = [*draws, evidence, None][:2] if draws else (evidence, None)
    assert first is not None
    steps = find_steps(first, wrong)
    searches = [Search(each) for each in (first, again) if each is not None]
    found = {}
    for i in wrong:
        step = steps.get(i)
        if step is not None and (step.which != i or step.is_constant):
            relation = _confirmed([search.of_step(step) for search in searches])
            name, said = relation or ("line", "is not right")
            found[i] = Mistake(name, f"is wrong by {step.describe(first)} {said}")
        elif relation := _confirmed([search.of_leaf(i) for search in searches]):
            found[i] = Mistake(relation[0], relation[1] + _at(step))
        else:
            found[i] = _unexplained(evidence.given[i], evidence.expected[i], step)
    return found


def _at(step: Step | None) -> str:
    is_named = step is not None and step.place.target
    return f" (line {step.place.line})" if step is not None and is_named else ""


def _confirmed(draws: Sequence[Iterator[Relation]]) -> Relation | None:
    """Return the first relation of a draw that the other draw has, too, if there is one."""
    one, *others = draws
    seen: list[Relation] = []
    for relation in one:
        if not others:
            return relation
        while relation not in seen and (following := next(others[0], None)):
            seen.append(following)
        if relation in seen:
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
    if given.shape == right.shape and not bool(right.any()):
        return Mistake("forward is flat", "should be zero here: forward does not change near x")
    # Here a line says something, even if it is the one that returns.
    where = f" (line {step.place.line})" if step is not None else ""
    return Mistake("line" if where else "", unnamed(given, right) + where)


def unnamed(given: Tensor, expected: Tensor) -> str:
    """Say where a gradient is wrong, if nothing says why."""
    if given.shape != expected.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    place = worst_place(given, expected)
    # The worst place counts as wrong, whatever the tolerance.
    wrong = max(1, int(((given - expected).abs() > allowed(expected)).sum()))
    count = f"wrong in {wrong} of {given.numel()} places"
    return f"is {count}, most at {list(place)}: a term is missing or wrong"


def worst_place(given: Tensor, expected: Tensor) -> tuple[int, ...]:
    """Return the place where two tensors of one shape differ most."""
    worst = (given - expected).abs().nan_to_num(torch.inf).argmax()
    return tuple(int(i) for i in torch.unravel_index(worst, given.shape))
