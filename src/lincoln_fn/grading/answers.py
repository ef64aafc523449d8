"""What a graded process answers: JSON, of which a value of a known type is made, or an error.

A process that runs a stranger's code may write into its pipe what it likes.
"""

from __future__ import annotations

import json
from functools import cache
from types import EllipsisType, UnionType
from typing import Any, Generic, Literal, TypeVar, get_args, get_origin, get_type_hints

import attrs

# Characters of a text.
LONGEST_TEXT = 10_000
# No count or place is as large.
TOO_LARGE = 1 << 62


# What is said of a process that answers anything else.
NO_ANSWER = "writes into the pipe of the grading"
T = TypeVar("T")


def printable(text: str) -> str:
    """Write what a terminal obeys, and what ends a line, as Python's `repr` does."""
    return "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)


def in_one_line(text: str) -> str:
    """Make a sentence of one line, of a stranger's text."""
    return printable(" ".join(text.split()))


@attrs.frozen
class Ran(Generic[T]):
    """How a function ran; there is a result if there is no problem."""

    result: T | None = None
    problem: str = ""
    output: str = ""
    printed: int = 0


# Any: the type of the result, as annotations have it.
def read(kind: Any, text: bytes) -> Ran[Any]:
    """Read how a function ran whose result is of a type; raise a ValueError for anything else."""
    result, problem, output, printed = decoded(tuple[kind | None, str, str, int], text)
    if (result is None) != bool(problem):
        raise ValueError("expected a result or a problem")
    return Ran(result, problem, output, printed)


def encoded(value: object) -> bytes:
    """Write records, tuples, texts and numbers as JSON."""
    return json.dumps(value, default=attrs.asdict).encode()


# Any: a type, as annotations have it, and a value of it.
def decoded(kind: Any, text: bytes) -> Any:
    """Read a value of a type; raise a ValueError if it is of another, however deep inside."""
    return _checked(kind, json.loads(text))


def _checked(kind: Any, value: object) -> Any:
    origin, arguments = get_origin(kind), get_args(kind)
    if kind is str and type(value) is str:
        return in_one_line(value[:LONGEST_TEXT])
    if kind is int and type(value) is int and 0 <= value < TOO_LARGE:
        return value
    if kind is float and type(value) is float:
        return value
    if origin is Literal and type(value) is str and value in arguments:
        return value
    if origin is UnionType:  # of a type and None
        return None if value is None else _checked(arguments[0], value)
    if origin is tuple and type(value) is list:
        is_any_number = isinstance(arguments[-1], EllipsisType)
        kinds = arguments[:1] * len(value) if is_any_number else arguments
        return tuple(map(_checked, kinds, value)) if len(kinds) == len(value) else _fail(kind)
    if attrs.has(kind) and type(value) is dict and value.keys() == _hints(kind).keys():
        return kind(**{name: _checked(hint, value[name]) for name, hint in _hints(kind).items()})
    return _fail(kind)


@cache
def _hints(record: type) -> dict[str, Any]:
    return get_type_hints(record)


def _fail(kind: Any) -> None:
    raise ValueError(f"expected {kind}, got another value")
