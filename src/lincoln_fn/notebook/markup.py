"""HTML that reads well in light and in dark notebooks.

Text and lines have the colour of the text around them, and backgrounds are transparent. There is
no script, no style sheet and nothing to load: GitHub and nbviewer would drop them.
"""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Final

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
    named = "".join(
        f' {name.replace("_", "-")}="{escape(str(value))}"' for name, value in attributes.items()
    )
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
