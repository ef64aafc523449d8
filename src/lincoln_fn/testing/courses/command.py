"""The command `python -m lincoln_fn.testing.grade cs231n layers.py`, which grades files."""

from __future__ import annotations

import argparse
import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import Path

import attrs

from lincoln_fn.errors.errors import LayerError
from lincoln_fn.testing.courses.course import names, read
from lincoln_fn.testing.courses.graded import Row, grade_file


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
    rows = [
        attrs.evolve(row, file=shown)
        for path, shown in paths
        for row in grade_file(path.resolve(), course, given.time_limit)
    ]
    print(as_csv(rows) if given.csv else as_text(rows), end="")


def _files(given: Sequence[Path]) -> Iterator[tuple[Path, str]]:
    for path in given:
        if path.is_dir():
            yield from ((p, str(p.relative_to(path))) for p in sorted(path.rglob("*.py")))
        elif path.is_file():
            yield path, path.name
        else:
            raise LayerError("grade", f"expected a file or a folder, got {str(path)!r}")


def as_csv(rows: Sequence[Row]) -> str:
    """Write a table of a class as CSV: a line for each gradient."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in attrs.fields(Row)])
    writer.writerows(attrs.astuple(row) for row in rows)
    return text.getvalue()


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
