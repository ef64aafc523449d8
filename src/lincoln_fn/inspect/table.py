"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Format rows under headings, in columns two spaces apart."""
    lines = [headings, (), *rows]
    widths = [max(map(len, column)) for column in zip(headings, *filter(None, rows), strict=True)]
    across = "─" * (sum(widths) + 2 * (len(widths) - 1))

    def line(cells: Sequence[str]) -> str:
        padded = (
            cell.ljust(width) if i < left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(cells, widths, strict=True))
        )
        return "  ".join(padded).rstrip()

    return "\n".join(line(cells) if cells else across for cells in lines)
