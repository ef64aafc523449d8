"""What is read only when an error is made: checks that say what is wrong, and what to write.

A call that is right loads none of it. So these files are found by their names.
"""

from __future__ import annotations

from importlib import import_module
from types import ModuleType
from typing import Any


def of_errors(file: str) -> ModuleType:
    """Load a file of this room."""
    return import_module(f"lincoln_fn.errors.{file}")


def suggest(given: object, kind: str) -> str:
    """Find what to write in place of an object, or "" if nothing is known."""
    found: str = of_errors("suggestions").suggest(given, kind)
    return found


def suggest_call(*call: Any) -> str:  # Any: of any kind, until they are checked
    """Find what to write in place of a call that does not fit, or "" if nothing is known."""
    found: str = of_errors("suggestions_of_calls").suggest_call(*call)
    return found


def no_attribute(owner: str, name: str) -> AttributeError:
    """Make the error of an object without an attribute, with what to write for one of torch's."""
    error: AttributeError = of_errors("habits").no_attribute(owner, name)
    return error


def warn(message: str) -> None:
    """Warn, and name the first line outside of the library."""
    of_errors("warn").warn(message)
