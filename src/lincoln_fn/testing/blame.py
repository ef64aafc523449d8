"""Which gradient of which layer is wrong, and what the mistake is called."""

from __future__ import annotations

import attrs

from lincoln_fn.core import Key, LayerError
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.failure import Part, failure, parts_at
from lincoln_fn.testing.held import is_followed
from lincoln_fn.testing.judge import Judgement, judge, relative_error
from lincoln_fn.testing.naming import Mistake, name_mistakes, worst_place
from lincoln_fn.testing.plain import first_not_linear, is_long, is_plainly_right, shortened
from lincoln_fn.testing.report import Finding, Verdict, kink_remark
from lincoln_fn.testing.sample import Sample, sample

NOT_LINEAR = Mistake("not linear in g", "is not linear in g: is g a factor of every term?")

UNSEEN = Mistake("", "is not the gradient of forward; with fewer numbers it may be seen where")


def blamed(
    at: Sample, key: Key, not_linear: str | None
) -> tuple[tuple[Finding, ...], tuple[str, ...]]:
    """Judge a layer's gradients, and blame what is wrong on a part and on a mistake."""
    if is_long(at) and not is_followed(at):
        at = shortened(at, key) or at
    judgement = judge(at, key)
    kinks = {n: p for n, p in zip(at.names, judgement.left_out, strict=True) if p}
    # A kink of x shows in the gradients of the params, too.
    of_x = {name: places for name, places in kinks.items() if name.startswith("dx")}
    remarks = [kink_remark(name, places) for name, places in (of_x or kinks).items()]
    told = (*judgement.remarks, *remarks)
    if "wrong" not in judgement.verdicts and not_linear is None:
        return _findings(at, judgement, {}), told
    parts = _wrong_parts(at, key)
    if parts:
        because = "; ".join(dict.fromkeys(part.where for part in parts))
        mistakes = {
            i: Mistake("a part", f"is wrong because of {because}")
            for i, verdict in enumerate(judgement.verdicts)
            if verdict == "wrong"
        }
        return (*parts, *_findings(at, judgement, mistakes)), told
    mistakes = _named(judgement, at, not_linear)
    if at.layer.parts:
        why = "all parts are right, but not how they are connected"
        mistakes = {
            i: attrs.evolve(m, sentence=f"{m.sentence} ({why})") for i, m in mistakes.items()
        }
    return _findings(at, judgement, mistakes), told


def _named(judgement: Judgement, at: Sample, not_linear: str | None) -> dict[int, Mistake]:
    found: dict[int, Mistake] = {}
    if judgement.evidence is not None:
        wrong = [i for i, verdict in enumerate(judgement.verdicts) if verdict == "wrong"]
        found = name_mistakes(judgement.evidence, wrong)
    for i, verdict in enumerate(judgement.verdicts):
        if verdict == "wrong":
            found.setdefault(i, UNSEEN)
    if not_linear is not None:
        i = at.names.index(not_linear)
        if i in found and found[i].name == "line":  # which says no fact
            said = f"{found[i].sentence}; it {NOT_LINEAR.sentence}"
            found[i] = attrs.evolve(NOT_LINEAR, sentence=said)
        elif i not in found or not found[i].name:
            found[i] = NOT_LINEAR
    return found


def _findings(
    at: Sample, judgement: Judgement, mistakes: dict[int, Mistake], part: Part | None = None
) -> tuple[Finding, ...]:
    found = []
    evidence = judgement.evidence
    for i, name in enumerate(at.names):
        verdict: Verdict = "wrong" if i in mistakes else judgement.verdicts[i]
        path = part.path if part else ""
        finding = Finding(path, at.layer.name, name, verdict, left_out=judgement.left_out[i])
        if i in mistakes:
            finding = attrs.evolve(
                finding,
                name=mistakes[i].name,
                sentence=f"{finding.where}: {name} {mistakes[i].sentence}",
            )
        if evidence is not None and verdict == "wrong":
            given, right = evidence.given[i], evidence.expected[i]
            place = worst_place(given, right) if given.shape == right.shape else None
            finding = attrs.evolve(finding, place=place, error=relative_error(given, right))
        found.append(finding)
    return tuple(found)


def _wrong_parts(at: Sample, key: Key) -> tuple[Finding, ...]:
    """Check the parts of a composition alone, the innermost first."""
    if not at.layer.parts:
        return ()
    found: list[Finding] = []
    blamed_paths: list[str] = []
    for part in parts_at(at.layer, at.params, at.x):
        if any(path.startswith(f"{part.path}.") for path in blamed_paths):
            continue
        wrong = _wrong(part, key)
        if wrong:
            blamed_paths.append(part.path)
            found += wrong
    return tuple(found)


def _wrong(part: Part, key: Key) -> list[Finding]:
    try:
        at = sample(part.layer, part.params, part.x, key)
        not_linear = first_not_linear(at, key.fold_in(1))
        if is_plainly_right(at, key, 2) and not_linear is None:
            return []
    except (GradientError, LayerError) as error:
        return [failure(part, error)]
    judgement = judge(at, key)
    if "wrong" not in judgement.verdicts and not_linear is None:
        return []
    findings = _findings(at, judgement, _named(judgement, at, not_linear), part)
    return [finding for finding in findings if finding.verdict == "wrong"]
