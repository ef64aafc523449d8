"""`grade`: marks for a layer that somebody else has written."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from types import MappingProxyType, ModuleType, SimpleNamespace
from typing import Literal, TypeAlias, get_args

from lincoln_fn import core
from lincoln_fn.core import Arrays, Layer, LayerError, Params, describe, tree, unexpected
from lincoln_fn.grading.isolated import KEPT, Ran, run_isolated
from lincoln_fn.grading.record import Grade, Mark
from lincoln_fn.grading.submission import Submission, examined
from lincoln_fn.testing import Finding, Report
from lincoln_fn.testing.internal import FUNCTIONS, IN_PLACE, doubled, floating

Level: TypeAlias = Literal[0, 1, 2]


def hint(finding: Finding, level: Level) -> str:
    """Say what a finding tells at a level, and never a value of the right gradient."""
    if level == 0:
        return ""
    if level == 1:
        return f"look at {finding.gradient}"
    return finding.sentence.removeprefix("" if finding.path else f"{finding.layer}: ")


PURITY = "purity"
# The names of mistakes.
MISTAKES = {
    "a part", "another forward", "another gradient", "another shape", "another value", "averaged",
    "clipped", "container", "contract", "derivative", "derivative missing", "empty slice",
    "eps missing", "factor", "factor missing", "forward ignores it", "forward is flat",
    "further factor", "g forgotten", "in place", "line", "mask inverted", "matrix product",
    "not finite", "not linear in g", "not summed", "numpy", "one use", "overwritten", "part of g",
    "path missing", "refused", "reordered", "sign", "summed", "swapped", "term", "transposed",
    "wrong axes", "zero",
}  # fmt: skip


def grade(
    submission: Submission,
    reference: Layer,
    cases: Sequence[tuple[Params, Arrays]],
    *,
    hints: Level = 1,
    points: Mapping[str, float] | None = None,
    credit: Mapping[str, float] | None = None,
    time_limit: float = 10.0,
) -> Grade:
    """Grade a layer by the checks of `check_layer`, in a process of its own for each case.

    A gradient earns its points times the share of the cases in which it is right. Nothing that the
    submission does is an error here: code that raises, exits, changes its arguments or does not end
    earns nothing in that case, and the grade says so.

    Args:
        submission: a `Layer`; a module, a namespace, or a mapping of names such as `globals()`; or
            the path of a file. A module has functions `forward` and `backward`. If it has the
            reference's constructor, the layer that this makes is graded.
        reference: the right layer. Where the submission's `forward` computes something else, the
            gradients are held against this one's.
        cases: pairs (params, x). `make_cases` makes some.
        hints: 0 for none, 1 for where to look, 2 for what is wrong. A hint has no value of
            the right gradient.
        points: by gradient, such as "dparams.weight"; the default is 1. "y" is for `forward`, and
            "purity" is for changing nothing in place; their default is 0.
        credit: by the name of a mistake, such as "averaged", the share of the points that a
            gradient with it still earns.
        time_limit: seconds to load the submission and to run it once, for each case. The check that
            follows may take 20 times as long.

    Example:
        >>> wrong = lf.tanh().replace(backward=lambda params, y, g: (g * (y**2 - 1), ()))
        >>> print(grade(wrong, lf.tanh(), [((), torch.tensor([1.0, -2.0]))], hints=2))
        tanh(): 0 of 1
          ✗ dx  0 of 1: dx has the wrong sign
    """
    order = ("submission", "reference", "cases")
    core.check_argument("grade", "reference", Layer, reference, order)
    _check_submission(submission)
    leaves = _checked_leaves(reference, cases)
    possible = _possible(leaves, points or {})
    for name in credit or ():
        if name not in MISTAKES:
            close = get_close_matches(name, MISTAKES, 1)
            mend = f"write {close[0]!r}" if close else f"there are {', '.join(sorted(MISTAKES))}"
            raise unexpected("grade", "credit for a mistake that has a name", repr(name), mend)
    if hints not in get_args(Level):
        raise unexpected("grade", "hints of 0, 1 or 2", repr(hints))
    if not time_limit > 0:
        raise unexpected("grade", "time_limit above 0, in seconds", repr(time_limit))
    calls = [partial(examined, submission, reference, case) for case in cases]
    ran = [run_isolated(call, Report, time_limit) for call in calls]
    reports = [each.result for each in ran]
    if not possible["y"] and not any(each and _finding(each, "y") for each in reports):
        del possible["y"]
    marks = tuple(mark(leaf, of, reports, hints, credit or {}) for leaf, of in possible.items())
    output = "".join(each.output for each in ran)[:KEPT]
    return Grade(reference.name, marks, _problems(ran), _remarks(ran), output)


def _check_submission(submission: object) -> None:
    if not isinstance(submission, (Layer, ModuleType, SimpleNamespace, Mapping, str, os.PathLike)):
        mend = "give a Layer, a module, globals() or the path of a file"
        raise unexpected("grade", "a submission", describe(submission), mend)
    if isinstance(submission, (str, os.PathLike)) and not Path(submission).is_file():
        raise unexpected("grade", "the path of a file", repr(str(submission)))


def _checked_leaves(reference: Layer, cases: object) -> list[str]:
    if not (
        isinstance(cases, Sequence)
        and cases
        and all(isinstance(case, tuple) and len(case) == 2 for case in cases)
    ):
        mend = "lf.testing.make_cases(reference, x) makes some"
        raise unexpected("grade", "cases (params, x)", describe(cases), mend)
    names: dict[str, None] = {}
    for case in cases:
        params, x = doubled(case)
        y = reference.forward(params, x)[0]
        if not all(bool(leaf.isfinite().all()) for leaf in tree.leaves(y)):
            raise LayerError("grade", f"expected cases where {reference.name} gives finite numbers")
        names.update(dict.fromkeys(floating(params, x)[0]))
    return list(names)


def _possible(leaves: list[str], points: Mapping[str, float]) -> dict[str, float]:
    unknown = [leaf for leaf in points if leaf not in (*leaves, "y", PURITY)]
    if unknown:
        known = ", ".join([*leaves, "y", PURITY])
        raise LayerError("grade", f"expected points of {known}; got {unknown[0]!r}")
    return {"y": 0.0, **dict.fromkeys(leaves, 1.0), **points}


def mark(
    leaf: str,
    possible: float,
    reports: Sequence[Report | None],
    level: Level = 2,
    credit: Mapping[str, float] = MappingProxyType({}),
) -> Mark:
    """Add up the cases of a gradient; there is no report of a case that did not run."""
    shares: list[float] = []
    wrong: list[Finding] = []
    for report in reports:
        finding = None if report is None else _finding(report, leaf)
        if report is None:
            shares.append(0.0)
        elif finding is None:  # where a function fails, nothing else is judged
            broken = [f for f in _broken(report) if f.name != IN_PLACE]
            is_lost = bool(broken) and (leaf != "y" or broken[0].leaf == "forward")
            shares.append(0.0 if is_lost else 1.0)
        elif finding.verdict == "wrong":
            shares.append(credit.get(finding.name, 0.0))
            wrong += [f for f in report.mistakes if f.path] or [finding]
        else:
            shares.append(1.0)
    # A mistake that has other numbers in each case is told once, and those with a name first.
    told: dict[tuple[str, str], Finding] = {}
    for finding in sorted(wrong, key=lambda finding: not finding.name):
        told.setdefault((finding.gradient, finding.name or finding.sentence), finding)
    mistakes = _once(f.name for f in wrong if f.name) if level == 2 else ()
    hints = _once(hint(f, level) for f in told.values()) if level else ()
    return Mark(leaf, possible * sum(shares) / len(shares), possible, mistakes, hints)


def _broken(report: Report) -> list[Finding]:
    """List the submission's own functions that break the contract, or refuse the case."""
    return [f for f in report.findings if f.leaf in FUNCTIONS and not f.path]


def _finding(report: Report, leaf: str) -> Finding | None:
    """Find what was found out about a gradient, or about the function that gives it alone."""
    if leaf == PURITY:
        return next((f for f in report.findings if f.name == IN_PLACE), None)
    own = next((f for f in report.findings if (f.path, f.leaf) == ("", leaf)), None)
    if own is None or own.verdict != "right":
        return own
    half = "input_grad" if leaf.startswith("dx") else "grads"
    return next((f for f in _broken(report) if f.leaf == half and f.name != IN_PLACE), own)


def _problems(ran: list[Ran[Report]]) -> tuple[str, ...]:
    """Say what went wrong besides gradients, and in which cases."""
    places: dict[str, list[int]] = {}
    for i, each in enumerate(ran):
        told = [hint(f, 2) for f in _broken(each.result)] if each.result else [each.problem]
        for text in told:
            places.setdefault(text, []).append(i)
    return tuple(
        text if len(where) == len(ran) else f"case {', '.join(map(str, where))}: {text}"
        for text, where in places.items()
    )


def _remarks(ran: list[Ran[Report]]) -> tuple[str, ...]:
    remarks = [remark for each in ran if each.result for remark in each.result.remarks]
    remarks += [
        f"case {i}: {finding.leaf} is not judged"
        for i, each in enumerate(ran)
        for finding in (each.result.findings if each.result else ())
        if finding.verdict == "not judged" and finding.leaf not in FUNCTIONS
    ]
    printed = sum(each.printed for each in ran)
    return _once([*remarks, *([f"prints {printed} characters"] if printed else [])])


def _once(texts: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(texts))
