"""The HTML that a notebook shows of a value; `notebook/` registers a view for each class."""

from __future__ import annotations

from functools import singledispatch
from html import escape
from importlib import import_module


@singledispatch
def html(value: object) -> str:
    """Return the HTML of a value: its repr, if no view is registered for its class."""
    return f"<pre>{escape(repr(value))}</pre>"


def shown(value: object) -> str:
    """Return the HTML of a value. The views are loaded when the first is asked for."""
    import_module("lincoln_fn.notebook.tables")
    return html(value)
