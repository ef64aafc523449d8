"""Register with IPython the views of what has no class of ours: tuples and lists of records.

The params and the cache of a composition are tuples, and a loop collects its records in a list.
IPython asks a formatter by type for them. Every other tuple and list is shown as before.
"""

from __future__ import annotations

from itertools import islice
from typing import Any, Final

from lincoln_fn.core import is_record
from lincoln_fn.notebook.views import html_of
from lincoln_fn.runtime import current_shell

_KINDS: Final = (tuple, list)
# Of a longer tuple or list, the first entries decide; a tuple within a tuple is looked into.
_LOOKED_AT: Final = 100
_DEEPEST: Final = 8


def load_ipython_extension(shell: Any) -> None:  # Any: an InteractiveShell, of IPython
    """Show tuples and lists of records as views from now on: `%load_ext lincoln_fn.notebook`.

    A formatter of your own for these types stays.

    Args:
        shell: IPython's shell.
    """
    formatter = shell.display_formatter.formatters["text/html"]
    for kind in _KINDS:
        if kind not in formatter:
            formatter.for_type(kind, sequence_html)


def unload_ipython_extension(shell: Any) -> None:  # Any: as above
    """Show tuples and lists as IPython does: `%unload_ext lincoln_fn.notebook`.

    Args:
        shell: IPython's shell.
    """
    formatter = shell.display_formatter.formatters["text/html"]
    for kind in _KINDS:
        if kind in formatter and formatter.lookup_by_type(kind) is sequence_html:
            formatter.pop(kind)


def load_if_in_ipython() -> None:
    """Load the extension, if the code runs in IPython or a notebook."""
    shell = current_shell()
    if shell is not None:
        shell.extension_manager.load_extension("lincoln_fn.notebook")


def sequence_html(value: tuple[object, ...] | list[object]) -> str | None:
    """Return the HTML of a tuple or list: its own, a view of the records in it, or None."""
    return html_of(value) if hasattr(value, "_repr_html_") or _has_record(value) else None


def _has_record(value: object, depth: int = 0) -> bool:
    if is_record(type(value)):
        return True
    if not isinstance(value, _KINDS) or depth > _DEEPEST:
        return False
    return any(_has_record(entry, depth + 1) for entry in islice(value, _LOOKED_AT))
