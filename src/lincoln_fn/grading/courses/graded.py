"""The exercises of one file, each graded in a process of its own."""

from __future__ import annotations

import ast
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from itertools import starmap
from pathlib import Path
from typing import Any, TypeAlias

import attrs

from lincoln_fn.core import Key, Layer
from lincoln_fn.grading.answers import NO_ANSWER, Ran
from lincoln_fn.grading.confined import empty, in_confinement
from lincoln_fn.grading.courses.course import Course, load
from lincoln_fn.grading.courses.exercise import Exercise, NotWrittenError
from lincoln_fn.grading.isolated import PATIENCE, run_isolated
from lincoln_fn.testing import Finding, Report, check_layer
from lincoln_fn.testing.internal import close_trees, on_copies, random_like

# Modules whose use is not told.
_HARMLESS = ("numpy", "math", "random", "builtins", "past", "__future__", "time", "functools")
# Names by which code reaches modules that it does not import.
_AROUND_IMPORTS = {
    "__import__", "__subclasses__", "__globals__", "__builtins__", "__getattribute__", "eval",
    "exec", "f_back", "f_globals", "gi_frame", "tb_frame",
}  # fmt: skip


@attrs.frozen
class Row:
    """What one gradient of one exercise has earned.

    Args:
        gradient: such as "dx"; "" for what concerns the whole exercise or file.
        points: the share of the cases in which it is right.
        mistake: its name; "" if there is none or it has no name.
        said: the mistake in a sentence; or what else is worth knowing.
    """

    file: str
    exercise: str = ""
    gradient: str = ""
    points: float = 0.0
    mistake: str = ""
    said: str = ""


def grade_file(path: Path, course: Course, time_limit: float) -> list[Row]:
    """Grade the exercises of a course that a file has."""
    row = partial(Row, path.name)
    with tempfile.TemporaryDirectory(prefix="lincoln_fn-") as scratch:
        folder = Path(scratch)

        # Any: of the function, and what it returns.
        def run(function: Callable[..., Any], answer: Any, *arguments: Any) -> Ran[Any]:
            """Run a function of the names of a file, in a process that can harm nothing."""
            confined = function, folder, time_limit * (PATIENCE + 1), path, course.modules
            given = (*confined, *arguments)
            ran: Ran[Any] = run_isolated(in_confinement, given, answer, time_limit, folder)
            empty(folder)  # what one exercise writes, no other sees
            return ran

        listed = run(_list_names, tuple[str, ...])
        if listed.result is None:
            return [row(mistake="does not load", said=listed.problem)]
        rows = [row(mistake=how, said=said) for how, said in _tell_imports(path, course)]
        for exercise in course.exercises:
            if {*listed.result}.issuperset(exercise.functions):
                checked = run(_check, tuple[Report, ...], exercise)
                rows += starmap(partial(row, exercise.name), _judge(exercise, checked))
        return rows


def _list_names(path: Path, modules: Mapping[str, str], ran: Callable[[], object]) -> list[str]:
    return [name for name, value in load(path, modules).items() if callable(value)]


def _check(
    path: Path, modules: Mapping[str, str], exercise: Exercise, ran: Callable[[], object]
) -> list[Report]:
    """Check all cases of an exercise; [] if it is not written."""
    names = load(path, modules)
    cases = [exercise.case(case) for case in exercise.cases]
    layers = [exercise.layer(names, others) for _, others in cases]
    try:
        first = [_run_once(layer, x) for layer, (x, _) in zip(layers, cases, strict=True)]
    except NotWrittenError:
        return []
    ran()
    reports = []
    for layer, (x, others), y in zip(layers, cases, first, strict=True):
        reference = _choose(exercise.references(others), x, y)
        reports.append(check_layer(layer, (), x, reference=reference, all=True))
    return reports


# Any: an output of any structure.
def _run_once(layer: Layer, x: Any) -> Any:
    """Run forward and backward of copies, and return y; None if they fail."""
    y = None
    try:
        once = on_copies(layer)
        y, cache = once.forward((), x)
        once.backward((), cache, random_like(y, Key(0)))
    except NotWrittenError:
        raise
    except Exception:  # a submission may fail in any way; the check says how
        pass
    return y


def _choose(references: list[Layer], x: Any, y: Any) -> Layer | None:
    """Choose the reference that agrees with an output; the first if none does."""
    fits = (r for r in references if y is not None and close_trees(r.forward((), x)[0], y))
    return next(fits, references[0] if references else None)


# Of a row: the gradient, its points, the mistake, and what is said.
Judged: TypeAlias = tuple[str, float, str, str]


def _judge(exercise: Exercise, ran: Ran[tuple[Report, ...]]) -> list[Judged]:
    """Judge each gradient of an exercise, and list each further problem."""
    reports = ran.result
    gradients = [f"d{array}" for array in exercise.arrays]
    if reports is None or len(reports) != len(exercise.cases):
        told = "does not run", ran.problem or NO_ANSWER
        if reports == ():
            told = "not written", "is not written"
        return [(gradient, 0.0, *told) for gradient in gradients]
    others = (
        ("", 0.0, finding.name, _said(exercise, finding))
        for report in reports
        for finding in report.findings
        if finding.leaf in ("y", "forward", "backward")
    )
    judged = (_judge_gradient(exercise, gradient, reports) for gradient in gradients)
    return [*judged, *dict.fromkeys(others)]


def _judge_gradient(exercise: Exercise, gradient: str, reports: tuple[Report, ...]) -> Judged:
    leaf = f"dx.{gradient[1:]}"
    found = [next((f for f in report.findings if f.leaf == leaf), None) for report in reports]
    wrong = [f for f in found if f is not None and f.verdict == "wrong"]
    right = sum(f is not None and f.verdict != "wrong" for f in found)
    first = next((f for f in wrong if f.name), wrong[0] if wrong else None)
    told = (first.name, _said(exercise, first)) if first else ("", "")
    return gradient, round(right / len(reports), 3), *told


def _said(exercise: Exercise, finding: Finding) -> str:
    """Write a finding's sentence with the course's names."""
    said = finding.sentence.removeprefix(f"{finding.where}: ")
    for name in exercise.arrays:
        said = re.sub(rf"\b(d?)x\.{name}\b", rf"\g<1>{name}", said)
    return said


def _tell_imports(path: Path, course: Course) -> Iterator[tuple[str, str]]:
    """List the modules that a file imports beside those of its course, and its ways around them."""
    known = {*_HARMLESS, path.parent.name, *(m.partition(".")[0] for m in course.modules)}
    found: dict[str, set[str]] = {"imports": set(), "uses": set()}
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            found["imports"] |= {alias.name.partition(".")[0] for alias in node.names} - known
        elif isinstance(node, ast.ImportFrom) and not node.level:
            found["imports"] |= {str(node.module).partition(".")[0]} - known
        elif isinstance(node, ast.Attribute | ast.Name):
            name = node.attr if isinstance(node, ast.Attribute) else node.id
            found["uses"] |= {name} & _AROUND_IMPORTS
    return ((how, f"{how} {', '.join(sorted(names))}") for how, names in found.items() if names)
