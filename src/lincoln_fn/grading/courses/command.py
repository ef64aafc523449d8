"""The command `python -m lincoln_fn.testing.grade cs231n layers.py`, which grades files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

import attrs

from lincoln_fn.core import LayerError
from lincoln_fn.grading.answers import in_one_line, printable
from lincoln_fn.grading.confined import confine
from lincoln_fn.grading.courses.course import Course, names, read
from lincoln_fn.grading.courses.graded import Row, grade_file
from lincoln_fn.grading.isolated import run_isolated
from lincoln_fn.grading.record import as_csv


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
    with TemporaryDirectory(prefix="lincoln_fn-") as folder:
        ran = run_isolated(_list_missing, (Path(folder),), tuple[str, ...], 10.0)
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
            raise LayerError("grade", f"expected a file or a folder, got {str(path)!r}")
        for file in files:
            yield file, printable(str(file if len(given) > 1 else file.relative_to(root)))


def _rows(path: Path, shown: str, course: Course, time_limit: float) -> list[Row]:
    """Grade one file; whatever goes wrong, the others are graded."""
    try:
        rows = grade_file(path.resolve(), course, time_limit)
    except Exception as error:
        said = f"is not graded: {in_one_line(str(error))}"
        rows = [Row(shown, mistake="not graded", said=said)]
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
