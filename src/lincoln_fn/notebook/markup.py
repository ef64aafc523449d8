"""HTML that reads well in light and in dark notebooks, and the curve of a run as inline SVG.

Text and lines have the colour of the text around them, and backgrounds are transparent. There is
no script, no style sheet and nothing to load: GitHub and nbviewer would drop them.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape
from itertools import groupby
from typing import Final

from lincoln_fn.core import html
from lincoln_fn.training import FitRecord, History, StepRecord

_FAINT: Final = "opacity:0.65"
# A notebook has rules of its own for the cells of a table.
_CELL: Final = (
    "padding:0.1em 0.8em 0.1em 0;background:transparent;border:none;color:inherit;"
    "white-space:pre;line-height:inherit"
)
_WHOLE: Final = (
    "font-family:ui-monospace,Menlo,Consolas,monospace;font-size:0.9em;line-height:1.5;"
    "white-space:nowrap;color:inherit;overflow-x:auto"
)


class Markup(str):
    """HTML; any other string is text, which is escaped."""

    __slots__ = ()


def element(tag: str, *content: str, **attributes: str | float) -> Markup:
    """Make an element."""
    pairs = ((name.replace("_", "-"), escape(str(value))) for name, value in attributes.items())
    named = "".join(f' {name}="{value}"' for name, value in pairs)
    inside = "".join(part if isinstance(part, Markup) else escape(part) for part in content)
    return Markup(f"<{tag}{named}>{inside}</{tag}>")


def picture(label: str, width: float, height: float, *content: str, style: str) -> Markup:
    """Make a drawing, which a label describes."""
    return element(
        "svg", element("title", label), *content, viewBox=f"0 0 {width} {height}", width=width,
        height=height, role="img", style=style,
    )  # fmt: skip


def wrap(*content: str) -> Markup:
    """Make the outermost element of a view."""
    return element("div", *content, style=_WHOLE)


def fade(text: str) -> Markup:
    """Make text that is less important than the text around it."""
    return element("span", text, style=_FAINT)


def fold(summary: str, *content: str, is_open: bool) -> Markup:
    """Make a part of the view that a click opens and closes."""
    inside = element("div", *content, style="margin-left:1.4em")
    line = element("summary", summary, style="cursor:pointer;display:list-item")
    details = element("details", line, inside)
    return Markup(details.replace("<details", "<details open", 1)) if is_open else details


def table(headings: Sequence[str], rows: Sequence[Sequence[str]], *, left: int) -> Markup:
    """Make a table; the arguments are those of the table in plain text."""

    def line(tag: str, cells: Sequence[str]) -> Markup:
        if not cells:
            ruled = "padding:0;border:none;border-top:1px solid currentColor"
            return element("tr", element("td", colspan=len(headings), style=ruled))
        aligned = (
            element(tag, cell, style=f"{_CELL};text-align:{'left' if i < left else 'right'}")
            for i, cell in enumerate(cells)
        )
        return element("tr", *aligned, style="background:transparent")

    head = [element("thead", line("th", headings))] if headings else []
    body = element("tbody", *(line("td", row) for row in rows))
    style = "border-collapse:collapse;border:none;margin:0.2em 0;font-size:inherit"
    return element("table", *head, body, style=style)


_WIDTH, _HEIGHT, _MARGIN, _LEFT = 420, 150, 18, 64
# Of a longer run, the smallest and the largest value of each of so many parts are drawn.
_PARTS: Final = 300
_ROWS: Final = 20
# These two colours of Okabe and Ito have a contrast of at least 3 on white and on black.
_COLOURS: Final = ("#0072B2", "#D55E00")


@html.register(History)
def history_html(records: Sequence[FitRecord | StepRecord]) -> Markup:
    """Show a run: curves of the loss and the metric, and a table of its last lines."""
    if not records:
        return wrap("no steps")
    pictures = []
    for colour, name in zip(_COLOURS, ("loss", "metric"), strict=True):
        values = [(record.step, getattr(record, name, None)) for record in records]
        points = [(step, value) for step, value in values if value is not None]
        if points:
            pictures.append(curve(name, points, colour))
    lines = [_numbers(record) for record in records[-_ROWS:]]
    headings = list(dict.fromkeys(name for line in lines for name in line))
    rows = [[line.get(name, "") for name in headings] for line in lines]
    shown = f"the last {_ROWS} of {len(records):,}" if len(records) > _ROWS else f"{len(records)}"
    lists = fold(fade(f"{shown} records"), table(headings, rows, left=0), is_open=False)
    # Side by side, or one below the other where there is no room.
    return wrap(element("div", *pictures, style="white-space:normal"), lists)


def _numbers(record: FitRecord | StepRecord) -> dict[str, str]:
    names = ("epoch", "step", "loss", "metric", "examples", "seconds")
    named = {name: getattr(record, name, None) for name in names}
    more = {**getattr(record, "parts", {}), **getattr(record, "scores", {})}
    return {
        name: f"{value:,}" if isinstance(value, int) else f"{value:.4g}"
        for name, value in {**named, **more}.items()
        if value is not None
    }


def curve(name: str, points: Sequence[tuple[int, float]], colour: str) -> Markup:
    """Draw values against steps."""
    finite = [value for _, value in points if math.isfinite(value)] or [0.0]
    low, high = min(finite), max(finite)
    first, last = points[0][0], points[-1][0]
    right, ground = _WIDTH - _MARGIN, _HEIGHT - _MARGIN

    def place(step: float, value: float) -> str:
        across = (step - first) / ((last - first) or 1)
        up = (value - low) / ((high - low) or 1)
        return f"{_LEFT + (right - _LEFT) * across:.1f} {ground - (ground - _MARGIN) * up:.1f}"

    runs = [[place(*point) for point in run] for run in _runs(points)]
    lines = "".join("M" + "L".join(run) for run in runs)
    alone = [run[0].split() for run in runs if len(run) == 1]
    dots = [element("circle", cx=x, cy=y, r=2.5, fill=colour) for x, y in alone]
    label = f"{name}: {points[-1][1]:.4g} at step {last:,}"

    def text(content: str, x: float, y: float, anchor: str) -> Markup:
        return element("text", content, x=x, y=y, text_anchor=anchor, fill="currentColor")

    return picture(
        label,
        _WIDTH,
        _HEIGHT,
        element(
            "path", d=f"M{_LEFT} {_MARGIN}V{ground}H{right}", fill="none", stroke="currentColor",
            opacity=0.4,
        ),
        element("path", d=lines, fill="none", stroke=colour, stroke_width=1.8),
        *dots,
        text(label, _LEFT, 11, "start"),
        text(f"{high:.4g}", _LEFT - 5, _MARGIN + 4, "end"),
        text(f"{low:.4g}", _LEFT - 5, ground + 4, "end"),
        text(f"{first:,}", _LEFT, _HEIGHT - 4, "start"),
        text(f"step {last:,}", right, _HEIGHT - 4, "end"),
        style="font-size:11px;max-width:100%;background:transparent",
    )  # fmt: skip


def _runs(points: Sequence[tuple[int, float]]) -> Iterable[list[tuple[int, float]]]:
    """Split points where a value is not finite, and thin out each run of many points."""
    for is_finite, run in groupby(points, key=lambda point: math.isfinite(point[1])):
        if is_finite:
            yield _thin([*run])


def _thin(run: list[tuple[int, float]]) -> list[tuple[int, float]]:
    if len(run) <= 2 * _PARTS:
        return run
    size = math.ceil(len(run) / _PARTS)
    parts = [run[i : i + size] for i in range(0, len(run), size)]
    extremes = (
        sorted({min(part, key=lambda point: point[1]), max(part, key=lambda point: point[1])})
        for part in parts
    )
    return [run[0], *(point for pair in extremes for point in pair), run[-1]]
