"""Values read as the types that a signature writes, and these types in words."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from numbers import Integral, Real
from types import NoneType, UnionType
from typing import Annotated, Any, Final, Literal, TypeAlias, Union, get_args, get_origin

import attrs
import numpy as np
from torch import Tensor

from lincoln_fn.errors.descriptions import is_constructor, is_function

# Any: a type as a signature writes it. Python has no name for what `int`, `int | None` and
# `tuple[int, ...]` have in common.
Hint: TypeAlias = Any
# Any: a function of any kind, and the arguments of a call by position and by name.
Function: TypeAlias = Callable[..., Any]
Given: TypeAlias = tuple[Any, ...]
ByName: TypeAlias = Mapping[str, Any]


@attrs.frozen
class Range:
    """A condition on a value beyond its type, in words and as a function.

    A value for which it does not hold is refused; with a `doubt`, it is warned of, as one that
    torch accepts, too: the doubt says what such a value does, and what to write.
    """

    words: str
    holds: Callable[[Any], bool]  # Any: of the type before it in `Annotated`
    doubt: str = ""


# Behind `float` in `Annotated`: the infinities are numbers too.
OR_INFINITE: Final = Range("", lambda number: True)
# Behind a type in `Annotated`: the function itself checks the argument, which says more.
BY_HAND: Final = Range("", lambda value: True)


@attrs.define(eq=False)
class RefusedError(Exception):
    """A value is not of its type."""

    expected: str  # such as "to be an int" or "of at least 1"
    given: object  # the value or its wrong entry
    kind: str = ""  # a class's name, "" for a range
    is_near: bool = True  # the type is right, and only the range or one entry is wrong
    place: str = ""  # where in the value that entry stands, such as "[1]"


def _wrong_type(hint: Hint, value: object) -> RefusedError:
    kind: Hint = hint
    while not isinstance(kind, type) and get_args(kind):
        kind = get_args(kind)[0]
    name = words(kind).partition(" ")[2] if isinstance(kind, type) else ""
    return RefusedError(f"to be {words(hint)}", value, name, is_near=False)


# Any: the value gets the type that `hint` names, which Python cannot express.
def read(hint: Hint, value: Any) -> Any:
    """Read a value as a type."""
    # Numpy's numbers become Python's of the same kind, and a list given for a tuple becomes a
    # tuple. True and False are no numbers. A type that this file does not know accepts any value.
    origin: Hint = get_origin(hint)
    if origin is Annotated:
        return _read_in_range(hint, value)
    if origin in (Union, UnionType):
        return _read_one_of(hint, value)
    if origin is Mapping:
        return _read_mapping(hint, value)
    if origin in (tuple, Sequence):
        return _read_entries(hint, value)
    if hint in (int, float):
        return _read_number(hint, value)
    if not _is_of(hint, value):
        raise _wrong_type(hint, value)
    return bool(value) if hint is bool else value


def _is_of(hint: Hint, value: object) -> bool:
    origin: Hint = get_origin(hint)
    if hint is bool:
        return isinstance(value, bool | np.bool_)
    if origin in (Iterable, Iterator):  # a class with `__getitem__` alone is iterable, too
        return True
    if origin is Literal:
        return any(type(value) is type(option) and value == option for option in get_args(hint))
    if origin is Callable:  # a constructor is not what it makes: `sgd(cosine)`
        return is_function(value) and not (isinstance(value, type) or is_constructor(value))
    kind = origin or hint  # `typing` has classes that no file is an instance of: TextIO
    is_class = isinstance(kind, type) and kind.__module__ != "typing"
    return not is_class or isinstance(value, kind)


def _read_number(hint: Hint, value: Any, *, may_be_infinite: bool = False) -> float:
    is_number = isinstance(value, Integral if hint is int else Real)
    if not is_number or isinstance(value, bool):
        raise _wrong_type(hint, value)
    number: float = value if type(value) in (int, float) else hint(value)
    if hint is float:
        # By comparisons, because an int may be larger than every float. nan does not equal itself.
        fits = number == number if may_be_infinite else abs(number) <= sys.float_info.max
        if not fits:
            raise _wrong_type(hint, value)
    return number


def _read_in_range(hint: Hint, value: Any) -> Any:
    kind, *ranges = get_args(hint)
    if BY_HAND in ranges:
        return value
    try:
        is_bound = OR_INFINITE in ranges
        value = _read_number(kind, value, may_be_infinite=True) if is_bound else read(kind, value)
    except RefusedError as refused:
        if not refused.is_near:
            raise _wrong_type(hint, value) from None
        raise
    for range_ in ranges:
        if not (range_.doubt or range_.holds(value)):
            raise RefusedError(range_.words, value)
    return value


def _read_one_of(hint: Hint, value: Any) -> Any:
    near = None
    for option in get_args(hint):
        try:
            return read(option, value)
        except RefusedError as refused:
            near = refused if refused.is_near else near
    if near is None:
        raise _wrong_type(hint, value)
    if NoneType in get_args(hint) and not near.place:
        near.expected += " or None"
    raise near


def _read_entries(hint: Hint, value: Any) -> tuple[Any, ...]:
    origin: Hint = get_origin(hint)
    kinds = get_args(hint)
    any_number = origin is Sequence or kinds[-1] is Ellipsis
    fits = isinstance(value, Sequence if origin is Sequence else tuple | list)
    if not fits or isinstance(value, str) or not (any_number or len(value) == len(kinds)):
        raise _wrong_type(hint, value)
    each = (kinds[0],) * len(value) if any_number else kinds
    return tuple(_read_at(f"[{i}]", *pair) for i, pair in enumerate(zip(each, value, strict=True)))


def _read_mapping(hint: Hint, value: Any) -> dict[Any, Any]:
    if not isinstance(value, Mapping):
        raise _wrong_type(hint, value)
    key, entry = get_args(hint)
    return {_read_at("", key, k): _read_at(f"[{k!r}]", entry, v) for k, v in value.items()}


def _read_at(place: str, hint: Hint, value: Any) -> Any:
    try:
        return read(hint, value)
    except RefusedError as refused:
        refused.place, refused.is_near = place + refused.place, True
        raise


_NOUNS: Final[Mapping[Hint, str]] = {
    float: "finite number", str: "string", Any: "value", Tensor: "tensor"
}  # fmt: skip


def words(hint: Hint, *, several: bool = False) -> str:
    """Describe in words what a type requires."""
    origin: Hint = get_origin(hint)
    args = get_args(hint)
    if origin is Annotated:
        kind, *ranges = args
        said = words(kind, several=several)
        if OR_INFINITE in ranges:
            said = said.replace("finite ", "")
        if get_origin(kind) is None:  # the length of a tuple goes without saying
            said += " " + ", ".join(asked.words for asked in ranges if asked.words)
        return said.rstrip()
    if origin in (Union, UnionType, Literal):
        options: list[str] = []
        for option in (hint,) if origin is Literal else args:
            is_literal = get_origin(option) is Literal
            options += (
                map(repr, get_args(option)) if is_literal else [words(option, several=several)]
            )
        return " or ".join([", ".join(options[:-1]), options[-1]] if options[1:] else options)
    if hint in (bool, NoneType):
        return "True or False" if hint is bool else "None"
    if origin in (tuple, Sequence):
        number = "" if origin is Sequence or args[-1] is Ellipsis else f"{len(args)} "
        return f"a {origin.__name__.lower()} of {number}{words(args[0], several=True)}"
    if origin is Mapping:
        return f"a mapping to {words(args[1], several=True)}"
    noun = "function" if origin is Callable else _NOUNS.get(hint) or str(hint.__name__)
    if several:
        return f"{noun}s"
    return f"{'an' if noun[0] in 'aeioAEIO' else 'a'} {noun}"
