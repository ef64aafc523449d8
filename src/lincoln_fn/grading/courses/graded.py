"""Files of a course, graded: `python -m lincoln_fn.testing.grade cs231n layers.py`.

Each exercise runs in a process of its own, which can harm nothing.
"""

from __future__ import annotations

import argparse
import ast
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from lincoln_fn.core import Layer, LayerError, unexpected
from lincoln_fn.grading import isolated
from lincoln_fn.grading.confined import confine, empty, in_confinement
from lincoln_fn.grading.courses.course import Course, load, names, read
from lincoln_fn.grading.courses.exercise import Exercise, NotWrittenError
from lincoln_fn.grading.grade import hint, mark
from lincoln_fn.grading.record import as_csv
from lincoln_fn.grading.submission import run_once
from lincoln_fn.testing import Report
from lincoln_fn.testing.internal import Options, checked, close_trees, doubled

# Modules whose use is not told.
_HARMLESS = ("numpy", "math", "random", "builtins", "past", "__future__", "time", "functools")
# Names by which code reaches modules that it does not import.
_AROUND_IMPORTS = {
    "__import__", "__subclasses__", "__globals__", "__builtins__", "__getattribute__", "eval",
    "exec", "f_back", "f_globals", "gi_frame", "tb_frame",
}  # fmt: skip
# The findings of an exercise beside its gradients.
_OTHERS = ("y", "forward", "backward")


@attrs.frozen
class Row:
    """What one gradient of one exercise has earned."""

    file: str = ""
    exercise: str = ""
    gradient: str = ""  # such as "dx"; "" for what concerns the whole exercise or file
    points: float = 0.0  # the share of the cases in which it is right
    mistake: str = ""  # its name; "" if there is none or it has no name
    said: str = ""  # the mistake in a sentence; or what else is worth knowing


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command."""
    parser = argparse.ArgumentParser(
        prog="python -m lincoln_fn.testing.grade",
        description="Grade files of a course as they are.",
    )
    parser.add_argument("course", help=f"{', '.join(names())}, or a table of your own, *.ini")
    parser.add_argument("files", nargs="+", type=Path, help="files, or folders of files")
    parser.add_argument("--csv", action="store_true", help="write the table as CSV")
    parser.add_argument(
        "--time-limit", type=float, default=10.0, help="seconds to load a file and run it once"
    )
    given = parser.parse_args(arguments)
    try:
        course = read(given.course)
        paths = [*_files(given.files)]
    except LayerError as error:
        parser.error(str(error))
    with tempfile.TemporaryDirectory(prefix="lincoln_fn-") as folder:
        ran = isolated.run_isolated(partial(_list_missing, Path(folder)), tuple[str, ...], 10.0)
    if missing := ran.problem or " and ".join(ran.result or ()):
        told = "code can do what SECURITY.md says: grade files of strangers in a container"
        print(f"the code of the files is not fully confined: no {missing}; {told}", file=sys.stderr)
    rows = [row for path, shown in paths for row in _rows(path, shown, course, given.time_limit)]
    heads = [field.name for field in attrs.fields(Row)]
    print(as_csv([heads, *map(attrs.astuple, rows)]) if given.csv else as_text(rows), end="")


def _list_missing(folder: Path, ran: Callable[[], object]) -> tuple[str, ...]:
    """Say what this machine lacks to confine a stranger's code."""
    return confine(folder, 10.0)


def _files(given: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    """List the files, each with a name that no other has and that may be printed."""
    for path in given:
        if path.is_dir():
            files, root = sorted(p for p in path.rglob("*.py") if p.is_file()), path
        elif path.is_file():
            files, root = [path], path.parent
        else:
            raise unexpected("grade", "a file or a folder", repr(str(path)))
        for file in files:
            yield file, isolated.printable(str(file if len(given) > 1 else file.relative_to(root)))


def _rows(path: Path, shown: str, course: Course, time_limit: float) -> list[Row]:
    """Grade one file; whatever goes wrong, the others are graded."""
    try:
        rows = grade_file(path.resolve(), course, time_limit)
    except Exception as error:
        said = f"is not graded: {isolated.in_one_line(str(error))}"
        rows = [Row(mistake="not graded", said=said)]
    return [attrs.evolve(row, file=shown) for row in rows]


def as_text(rows: Sequence[Row]) -> str:
    """Write a table of a class: each file with its points, and what is wrong."""
    lines = []
    for file in dict.fromkeys(row.file for row in rows):
        own = [row for row in rows if row.file == file]
        counted = [row for row in own if row.gradient]
        lines.append(f"{file}: {sum(row.points for row in counted):g} of {len(counted)}")
        lines += [
            f"  {' '.join(filter(None, (row.exercise, row.gradient))) or 'file'}: {row.said}"
            for row in own
            if row.said
        ]
    return "\n".join([*lines, ""])


def grade_file(path: Path, course: Course, time_limit: float) -> list[Row]:
    """Grade the exercises of a course that a file has."""
    with tempfile.TemporaryDirectory(prefix="lincoln_fn-") as scratch:
        folder = Path(scratch)

        # Any: of the function, and what it returns.
        def run(function: Callable[..., Any], answer: Any, *arguments: Any) -> isolated.Ran[Any]:
            """Run a function of the names of a file, in a process that can harm nothing."""
            # Each is new: what one exercise changes or writes, no other sees, to gain or to lose.
            empty(folder)
            seconds = time_limit * (isolated.PATIENCE + 1)
            given = folder, seconds, path, course.modules, *arguments
            call = partial(in_confinement, function, *given)
            return isolated.run_isolated(call, answer, time_limit, folder)

        listed = run(_list_names, tuple[str, ...])
        if listed.result is None:
            return [Row(mistake="does not load", said=listed.problem)]
        rows = [*_tell_imports(path, course)]
        for exercise in course.exercises:
            if {*listed.result}.issuperset(exercise.functions):
                rows += _judge(exercise, run(_check, tuple[Report, ...], exercise))
        return rows


def _list_names(path: Path, modules: Mapping[str, str], ran: Callable[[], object]) -> list[str]:
    return [name for name, value in load(path, modules).items() if callable(value)]


def _check(
    path: Path, modules: Mapping[str, str], exercise: Exercise, ran: Callable[[], object]
) -> list[Report]:
    """Check all cases of an exercise; [] if it is not written."""
    own, cases = load(path, modules), []
    for case in exercise.cases:
        x, others = exercise.case(case)
        layer = exercise.layer(own, others)
        try:
            y = run_once(layer, (), x, (NotWrittenError,))
        except NotWrittenError:
            return []
        cases.append((layer, x, _choose(exercise, others, x, y)))
    ran()
    reports: list[Report] = []
    for layer, x, right in cases:
        # What has a name in one case is named in no other.
        named = frozenset(f.leaf for each in reports for f in each.mistakes if f.name)
        options = Options(all=True, reference=right, named=named)
        reports.append(checked(layer, (), doubled(x), options))
    return reports


# Any: an output of any structure.
def _choose(exercise: Exercise, others: Mapping[str, Any], x: Any, y: Any) -> Layer | None:
    """Choose the reference that agrees with an output; the first if none does."""
    references = exercise.references(others, y)
    fits = (r for r in references if y is not None and close_trees(r.forward((), x)[0], y))
    return next(fits, references[0] if references else None)


def _judge(exercise: Exercise, ran: isolated.Ran[tuple[Report, ...]]) -> Iterator[Row]:
    reports, row = ran.result, partial(Row, exercise=exercise.name)
    if reports is None or len(reports) != len(exercise.cases):
        told = "not written" if reports == () else "does not run"
        said = "is not written" if reports == () else ran.problem or isolated.NO_ANSWER
        yield from (row(gradient=f"d{array}", mistake=told, said=said) for array in exercise.arrays)
        return
    for array in exercise.arrays:
        of = mark(f"dx.{array}", 1.0, reports)
        mistake, said = next(iter(of.mistakes), ""), next(iter(of.hints), "")
        points = round(of.points, 3)
        yield row(gradient=f"d{array}", points=points, mistake=mistake, said=exercise.told(said))
    others = (f for report in reports for f in report.findings if f.leaf in _OTHERS)
    yield from dict.fromkeys(row(mistake=f.name, said=exercise.told(hint(f, 2))) for f in others)


def _tell_imports(path: Path, course: Course) -> Iterator[Row]:
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
    for how, modules in found.items():
        if modules:
            yield Row(mistake=how, said=f"{how} {', '.join(sorted(modules))}")
