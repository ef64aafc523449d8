"""The table of a class: a row for each submission, a column for each gradient."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping

import attrs

from lincoln_fn.grading.printed import printable
from lincoln_fn.grading.record import Grade
from lincoln_fn.testing.internal import html_table


@attrs.frozen
class Grades:
    """The grades of a class. It prints as a table, and a notebook shows it as one.

    Args:
        grades: by the name of the submission.

    Example:
        >>> from lincoln_fn.testing import Mark
        >>> ada = Grade("dense(4)", (Mark("dparams.weight", 1, 1), Mark("dx", 1, 1)))
        >>> bob = Grade("dense(4)", (Mark("dparams.weight", 0, 1), Mark("dx", 1, 1)))
        >>> print(Grades({"ada": ada, "bob": bob}))
        submission  dparams.weight  dx  points
        ada         1               1   2 of 2
        bob         0               1   1 of 2
    """

    grades: Mapping[str, Grade]

    def _table(self) -> tuple[list[str], list[list[str]]]:
        """Return the heads, and the cells of each row."""
        marks = [mark for grade in self.grades.values() for mark in grade.marks]
        leaves = list(dict.fromkeys(mark.leaf for mark in marks if mark.possible))
        rows = [
            [
                printable(name),
                *(f"{grade.mark(leaf).points:g}" for leaf in leaves),
                f"{grade.points:g} of {grade.possible:g}",
            ]
            for name, grade in self.grades.items()
        ]
        return ["submission", *leaves, "points"], rows

    def to_csv(self) -> str:
        """Write the table as CSV, for a spreadsheet; the points and the possible points are apart.

        Example:
            >>> from lincoln_fn.testing import Mark
            >>> print(Grades({"ada": Grade("tanh()", (Mark("dx", 0.5, 1),))}).to_csv(), end="")
            submission,dx,points,possible
            ada,0.5,0.5,1
        """
        heads, rows = self._table()
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow([*heads, "possible"])
        writer.writerows([*row[:-1], *row[-1].split(" of ")] for row in rows)
        return text.getvalue()

    def __str__(self) -> str:
        heads, rows = self._table()
        widths = [max(map(len, column)) for column in zip(heads, *rows, strict=True)]
        lines = (
            "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
            for line in (heads, *rows)
        )
        return "\n".join(lines)

    def _repr_html_(self) -> str:
        """Return a table, for notebooks."""
        heads, rows = self._table()
        return html_table(("class", f"{len(rows)} submissions"), heads, rows, ())
