"""Which gradient of which part of a layer is wrong, or which function fails."""

from __future__ import annotations

import re
from contextlib import suppress
from functools import partial
from typing import NamedTuple

import attrs

from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params
from lincoln_fn.testing.diagnosis import Finding, GradientError, Verdict, kink_remark
from lincoln_fn.testing.explain import Mistake, name_mistakes, worst_place
from lincoln_fn.testing.judge import Judgement, judge, relative_error
from lincoln_fn.testing.point import is_plainly_right
from lincoln_fn.testing.sample import Sample, sample
from lincoln_fn.walk.internal import map_paths, paths

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


def blamed(
    at: Sample, key: Key, named: frozenset[str] = frozenset()
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Judge a layer's gradients, and blame what is wrong on a part and on a mistake."""
    judgement = judge(at, key, named)
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
        sought = [i for i in wrong if at.names[i] not in named]
        found = name_mistakes(evidence, sought) if sought and evidence is not None else {}
        mistakes = dict.fromkeys(wrong, UNSEEN) | found
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
