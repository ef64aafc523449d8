"""The record of a grading: a mark for each gradient; and the table of a class."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping

import attrs

from lincoln_fn.grading.isolated import printable
from lincoln_fn.testing.internal import html_table


class GradeError(AssertionError):
    """Raised by `Grade.check` for a gradient without full marks."""


@attrs.frozen
class Mark:
    """The mark of one gradient.

    Args:
        leaf: the gradient, such as "dx" or "dparams.weight"; or "y", the output of forward.
        points: what the submission has earned.
        possible: what it could earn.
        mistakes: the names of its mistakes, such as "averaged"; empty below hint level 2.
        hints: what to look at, or what is wrong; empty at hint level 0.
    """

    leaf: str
    points: float
    possible: float
    mistakes: tuple[str, ...] = ()
    hints: tuple[str, ...] = ()

    @property
    def is_full(self) -> bool:
        """Whether nothing is missing."""
        return self.points >= self.possible and not self.hints

    def __str__(self) -> str:
        told = f": {'; '.join(self.hints)}" if self.hints else ""
        return f"{self.leaf}  {_share(self)}{told}"


@attrs.frozen
class Grade:
    """The marks of a submission.

    Args:
        problems: what went wrong besides: code that raises, exits or does not end.
        remarks: what costs no points: places left out at kinks, printing.
        output: what the code has printed, at most 10000 characters, in one line. It is not shown,
            and `to_json` leaves it out.

    Example:
        >>> grade = Grade("tanh()", (Mark("dx", 0.5, 1, hints=("look at dx",)),))
        >>> print(grade)
        tanh(): 0.5 of 1
          ✗ dx  0.5 of 1: look at dx
    """

    name: str
    marks: tuple[Mark, ...]
    problems: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()
    output: str = attrs.field(default="", repr=False)

    @property
    def points(self) -> float:
        """The sum of what was earned."""
        return sum(mark.points for mark in self.marks)

    @property
    def possible(self) -> float:
        """The sum of what could be earned."""
        return sum(mark.possible for mark in self.marks)

    def mark(self, leaf: str) -> Mark:
        """Return the mark of a gradient; one without points if there is none.

        Example:
            >>> Grade("tanh()", (Mark("dx", 1, 1),)).mark("dx").points
            1
        """
        return next((mark for mark in self.marks if mark.leaf == leaf), Mark(leaf, 0, 0))

    def check(self, leaf: str) -> None:
        """Raise an error unless a gradient has full marks: a test of nbgrader or otter-grader.

        Example:
            >>> Grade("tanh()", (Mark("dx", 0, 1, hints=("look at dx",)),)).check("dx")
            Traceback (most recent call last):
            lincoln_fn.grading.record.GradeError: dx  0 of 1: look at dx
        """
        mark = self.mark(leaf)
        if mark.points < mark.possible or not mark.possible:
            raise GradeError("\n".join([str(mark), *self.problems]))

    def to_json(self, *, output: bool = False) -> str:
        """Write the grade as JSON: its fields, and the sums `points` and `possible`.

        Args:
            output: whether what the code has printed is written, too.

        Example:
            >>> json.loads(Grade("tanh()", (Mark("dx", 1, 1),)).to_json())["points"]
            1
        """
        fields = attrs.asdict(self) | {"points": self.points, "possible": self.possible}
        if not output:
            del fields["output"]
        return json.dumps(fields, indent=2, ensure_ascii=False)

    def __str__(self) -> str:
        lines = [f"{self.name}: {_share(self)}"]
        lines += [f"  {_sign(mark)} {mark}" for mark in self.marks]
        return "\n".join([*lines, *(f"  {told}" for told in (*self.problems, *self.remarks))])

    def _repr_html_(self) -> str:
        rows = [(_sign(m), m.leaf, _share(m), "; ".join(m.hints)) for m in self.marks]
        heads = ("", "gradient", "marks", "hint")
        return html_table((self.name, _share(self)), heads, rows, (*self.problems, *self.remarks))


def _sign(mark: Mark) -> str:
    return "✓" if mark.is_full else "✗"


def _share(of: Mark | Grade) -> str:
    return f"{of.points:g} of {of.possible:g}"


def as_csv(rows: Iterable[Iterable[object]]) -> str:
    """Write a table for a spreadsheet."""
    text = io.StringIO(newline="")
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


@attrs.frozen
class Grades:
    """The grades of a class, by the name of the submission. It prints as a table.

    Example:
        >>> ada = Grade("dense(4)", (Mark("dparams.weight", 1, 1), Mark("dx", 1, 1)))
        >>> bob = Grade("dense(4)", (Mark("dparams.weight", 0, 1), Mark("dx", 1, 1)))
        >>> print(Grades({"ada": ada, "bob": bob}))
        submission  dparams.weight  dx  points
        ada         1               1   2 of 2
        bob         0               1   1 of 2
    """

    grades: Mapping[str, Grade]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        marks = [mark for grade in self.grades.values() for mark in grade.marks]
        leaves = list(dict.fromkeys(mark.leaf for mark in marks if mark.possible))

        def row(name: str, grade: Grade) -> list[str]:
            points = (f"{grade.mark(leaf).points:g}" for leaf in leaves)
            return [printable(name), *points, _share(grade)]

        return ["submission", *leaves, "points"], [row(*each) for each in self.grades.items()]

    def to_csv(self) -> str:
        """Write the table as CSV, for a spreadsheet; the points and the possible points are apart.

        Example:
            >>> print(Grades({"ada": Grade("tanh()", (Mark("dx", 0.5, 1),))}).to_csv(), end="")
            submission,dx,points,possible
            ada,0.5,0.5,1
        """
        heads, rows = self._table()
        apart = ([*row[:-1], *row[-1].split(" of ")] for row in rows)
        return as_csv([[*heads, "possible"], *apart])

    def __str__(self) -> str:
        heads, rows = self._table()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = ("  ".join(map(str.ljust, line, widths)).rstrip() for line in (heads, *rows))
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        heads, rows = self._table()
        return html_table(("class", f"{len(rows)} submissions"), heads, rows, ())


def otter_results(grade: Grade) -> str:
    """Write a grade as otter-grader writes its results: `results.json`, in Gradescope's format.

    Example:
        >>> json.loads(otter_results(Grade("tanh()", (Mark("dx", 0.5, 1),))))["tests"][0]["score"]
        0.5
    """
    tests = [
        {
            "name": f"{grade.name} {mark.leaf}",
            "score": round(mark.points, 5),
            "max_score": round(mark.possible, 5),
            "visibility": "visible",
            "output": "\n".join(mark.hints),
        }
        for mark in grade.marks
    ]
    told = "\n".join([*grade.problems, *grade.remarks])
    return json.dumps({"tests": tests, "output": told}, indent=2, ensure_ascii=False)
