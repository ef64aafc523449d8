"""A table as a notebook shows it."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape


def html_table(
    title: tuple[str, str],
    heads: Sequence[str],
    rows: Sequence[Sequence[str]],
    remarks: Sequence[str],
) -> str:
    """Write a table with a title and remarks, without its empty columns."""
    shown = [n for n in range(len(heads)) if any(row[n] for row in rows)]
    head = _row("th", [heads[n] for n in shown])
    body = "".join(_row("td", [row[n] for n in shown]) for row in rows)
    items = "".join(f"<li>{_html(remark)}</li>" for remark in remarks)
    return (
        f"<div><b>{escape(title[0])}</b>: {title[1]}"
        f"<table><thead>{head}</thead><tbody>{body}</tbody></table>"
        + (f"<ul>{items}</ul>" if items else "")
        + "</div>"
    )


def _row(kind: str, cells: Sequence[str]) -> str:
    shown = "".join(f'<{kind} style="text-align:left">{_html(cell)}</{kind}>' for cell in cells)
    return f"<tr>{shown}</tr>"


def _html(text: str) -> str:
    """Escape a text, and mark what stands between backquotes as code."""
    return re.sub("`(.+?)`", r"<code>\1</code>", escape(text))
