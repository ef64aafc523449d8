"""The tables of `lf.inspect.trace` and `lf.summary`."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Arrays, html
from lincoln_fn.inspect import Trace
from lincoln_fn.inspect.internal import (
    SUMMARY_HEADINGS,
    TRACE_HEADINGS,
    Summary,
    cells,
    remark_on,
    rows_of,
)
from lincoln_fn.notebook.markup import Markup, element, fade, table, wrap
from lincoln_fn.notebook.trees import tensor_cells


@html.register(Trace)
def trace_html(trace: Trace) -> Markup:
    """Show a trace: its table, with histograms of each output and each gradient."""
    shown = [
        (
            *row[:3],
            _histogram(record.output),
            _histogram(record.gradient),
            *row[3:-1],
            _bold(row[-1]),
        )
        for row, record in zip(map(cells, trace), trace, strict=True)
    ]
    return wrap(table((*TRACE_HEADINGS[:3], "y", "dL/dy", *TRACE_HEADINGS[3:]), shown, left=5))


def _histogram(arrays: Arrays) -> str:
    return tensor_cells(arrays)[1] if isinstance(arrays, Tensor) else ""


def _bold(text: str) -> str:
    return element("b", text) if text else ""


@html.register(Summary)
def summary_html(summary: Summary) -> Markup:
    """Show a summary: its table, with the total in bold, and the remark below it."""
    *rows, total = rows_of(summary)
    bold = [_bold(cell) for cell in total]
    return wrap(table(SUMMARY_HEADINGS, [*rows, bold], left=3), fade(remark_on(summary)))
