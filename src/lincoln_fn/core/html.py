"""The HTML that a notebook shows of a value; `notebook/` registers a view for each class."""

from __future__ import annotations

from functools import singledispatch
from html import escape


@singledispatch
def html(value: object) -> str:
    """Return the HTML of a value: its repr, if no view is registered for its class."""
    return f"<pre>{escape(repr(value))}</pre>"
