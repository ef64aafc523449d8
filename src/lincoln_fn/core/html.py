"""The HTML that a notebook shows of a value; `notebook/` registers a view for each class."""

from __future__ import annotations

from functools import singledispatch
from html import escape
from importlib import import_module
from importlib.util import find_spec


@singledispatch
def html(value: object) -> str:
    """Return the HTML of a value: its repr, if no view is registered for its class."""
    return f"<pre>{escape(repr(value))}</pre>"


def shown(value: object) -> str:
    """Return the HTML of a value, by the views of `notebook` where its rooms are there."""
    if find_spec("lincoln_fn.notebook") and find_spec("lincoln_fn.inspect"):
        import_module("lincoln_fn.notebook.views")
    return html(value)
