"""The tables of `lf.inspect.trace` and `lf.summary`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from torch import Tensor

from lincoln_fn.core.layer import Arrays
from lincoln_fn.notebook.markup import Markup, element, fade, table, wrap
from lincoln_fn.notebook.trees import tensor_cells

if TYPE_CHECKING:
    from lincoln_fn.inspect import LayerTrace


def trace_html(
    headings: Sequence[str], rows: Sequence[Sequence[str]], records: Sequence[LayerTrace]
) -> Markup:
    """Show a trace: its table, with histograms of each output and each gradient."""
    shown = [
        (
            *row[:3],
            _histogram(record.output),
            _histogram(record.gradient),
            *row[3:-1],
            _bold(row[-1]),
        )
        for row, record in zip(rows, records, strict=True)
    ]
    return wrap(table((*headings[:3], "y", "dL/dy", *headings[3:]), shown, left=5))


def _histogram(arrays: Arrays) -> str:
    return tensor_cells(arrays)[1] if isinstance(arrays, Tensor) else ""


def _bold(text: str) -> str:
    return element("b", text) if text else ""


def summary_html(headings: Sequence[str], rows: Sequence[Sequence[str]], remark: str) -> Markup:
    """Show a summary: its table, with the total in bold, and the remark below it."""
    total = [_bold(cell) for cell in rows[-1]]
    return wrap(table(headings, [*rows[:-1], total], left=3), fade(remark))
