"""Plain text tables."""

from __future__ import annotations

from collections.abc import Sequence


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> str:
    """Format rows under headings, in columns two spaces apart.

    Args:
        headings: one per column.
        rows: each with one cell per column; an empty row becomes a horizontal line.
        left: how many columns, from the first, are aligned left; the others hold numbers.

    Returns:
        The text, without a newline at its end.

    Example:
        >>> print(table(("layer", "size"), [("dense", "10"), (), ("total", "10")], left=1))
        layer  size
        ───────────
        dense    10
        ───────────
        total    10
    """
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
