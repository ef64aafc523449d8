"""Which gradient of which part of a layer is wrong, or which function fails, and why.

A mistake is told by the line that made it, and by how its value differs from what is right.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params
from lincoln_fn.testing.align import Step, find_steps
from lincoln_fn.testing.contract import not_finite
from lincoln_fn.testing.diagnosis import Finding, GradientError, Verdict, close, kink_remark
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.judge import Judgement, judge, relative_error
from lincoln_fn.testing.oracles import allowed, is_reached
from lincoln_fn.testing.point import is_plainly_right
from lincoln_fn.testing.relations import Relation
from lincoln_fn.testing.sample import Sample, sample
from lincoln_fn.testing.search import Search
from lincoln_fn.walk.internal import map_paths, paths


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
            is_named = step is not None and step.place.target
            found[i] = Mistake(relation[0], relation[1] + (_line(step) if is_named else ""))
        else:
            found[i] = _unexplained(evidence.given[i], evidence.expected[i], step)
    return found


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


UNSEEN = Mistake("", "is not the gradient of forward; with fewer numbers it may be seen where")

# An array of no numbers does not fit.
_EMPTY = re.compile(r"raised ValueError: .*from shape \((?:\d+, ?)*0[,)]")
# What older code uses, and numpy no longer has.
_REMOVED = re.compile(
    r"raised (AttributeError: (module 'numpy[\w.]*' has no attribute|`?np\.\w+`? was (a dep|rem))"
    r"|TypeError: reshape\(\) got an unexpected keyword argument 'newshape')"
)


class Part(NamedTuple):
    """One use of a part of a network."""

    path: str
    layer: Layer
    params: Params
    x: Arrays


def parts_at(net: Layer, params: Params, x: Arrays) -> list[Part]:
    """List the parts of a network with what they are given, the innermost first."""
    layers = dict(paths(net))
    seen: dict[str, Part] = {}

    def forward(path: str, inner: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        seen.setdefault(path, Part(path, layers[path], params, x))
        return inner.forward(params, x)

    def spied(layer: Layer, path: str) -> Layer:
        return layer.replace(forward=partial(forward, path, layer)) if path else layer

    map_paths(spied, net).forward(params, x)
    return sorted(seen.values(), key=lambda part: -part.path.count("."))


def blamed(at: Sample, key: Key) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Judge a layer's gradients, and blame what is wrong on a part and on a mistake."""
    judgement = judge(at, key)
    kinks = {n: p for n, p in zip(at.names, judgement.left_out, strict=True) if p}
    # A kink of x shows in the gradients of the params, too.
    of_x = {name: places for name, places in kinks.items() if name.startswith("dx")}
    remarks = [kink_remark(name, places) for name, places in (of_x or kinks).items()]
    wrong = [i for i, verdict in enumerate(judgement.verdicts) if verdict == "wrong"]
    parts = _wrong_parts(at, key) if wrong else []
    if parts:
        because = "; ".join(dict.fromkeys(part.where for part in parts))
        mistakes = dict.fromkeys(wrong, Mistake("a part", f"is wrong because of {because}"))
    else:
        evidence = judgement.evidence
        named = name_mistakes(evidence, wrong) if wrong and evidence is not None else {}
        mistakes = dict.fromkeys(wrong, UNSEEN) | named
    if at.layer.parts and not parts:
        why = " (all parts are right, but not how they are connected)"
        mistakes = {i: attrs.evolve(m, sentence=m.sentence + why) for i, m in mistakes.items()}
    findings = (*parts, *_findings(at, judgement, mistakes))
    return findings, (*judgement.remarks, *remarks)


def _findings(
    at: Sample, judgement: Judgement, mistakes: dict[int, Mistake]
) -> tuple[Finding, ...]:
    found = []
    evidence = judgement.evidence
    for i, name in enumerate(at.names):
        verdict, left_out = judgement.verdicts[i], judgement.left_out[i]
        finding = Finding("", at.layer.name, name, verdict, left_out=left_out)
        if i in mistakes:
            sentence = f"{at.layer.name}: {name} {mistakes[i].sentence}"
            finding = attrs.evolve(finding, name=mistakes[i].name, sentence=sentence)
        if evidence is not None and verdict == "wrong":
            given, right = evidence.given[i], evidence.expected[i]
            place = worst_place(given, right) if given.shape == right.shape else None
            finding = attrs.evolve(finding, place=place, error=relative_error(given, right))
        found.append(finding)
    return tuple(found)


def _wrong_parts(at: Sample, key: Key) -> list[Finding]:
    """Check the parts of a composition alone, the innermost first."""
    found: list[Finding] = []
    for part in parts_at(at.layer, at.params, at.x) if at.layer.parts else ():
        if any(finding.path.startswith(f"{part.path}.") for finding in found):
            continue  # a part of this one is wrong
        try:
            alone = sample(part.layer, part.params, part.x, key)
            if is_plainly_right(alone, key, 2):
                continue
            for finding in blamed(alone, key)[0]:
                if finding.verdict == "wrong":
                    told = f"{part.path} {finding.sentence}"
                    found.append(attrs.evolve(finding, path=part.path, sentence=told))
        except (GradientError, LayerError) as error:
            found.append(failure(part, error))
    return found


def failure(part: Part, error: GradientError | LayerError) -> Finding:
    """Make the finding of an error: of which function it is, and what it says."""
    sentence, name = str(error), "contract"
    if isinstance(error, GradientError):
        function = error.function
    else:
        name, function = "refused", "forward"
        with suppress(Exception):  # a submission may fail in any way
            part.layer.forward(part.params, part.x)
            function = "backward"
    if _EMPTY.search(sentence):
        name, sentence = "empty slice", f"{sentence}; is a slice such as pad:-pad empty at pad 0?"
    is_old = bool(_REMOVED.search(sentence))
    if is_old:
        name, sentence = "numpy", f"{sentence}; this version of numpy has removed it"
    is_doubtful = is_old or (name, function) == ("refused", "forward")
    verdict: Verdict = "not judged" if is_doubtful else "wrong"
    return Finding(part.path, part.layer.name, function, verdict, name, sentence)
