"""What a user's functions read beside their arguments, and whether it has changed since.

The library's functions read their arguments alone. A user's may also read a global name, a variable
of the function around them, a default, or an attribute of an object. These are found by following a
function to all that it can reach. A recorded program holds as long as they stay what they are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from functools import partial
from types import (
    BuiltinFunctionType,
    BuiltinMethodType,
    CellType,
    CodeType,
    FunctionType,
    MethodType,
    ModuleType,
)
from typing import Any, Final

import attrs
import numpy as np
import torch
from torch import Tensor

# Values that cannot change.
_CONSTANT: Final = (
    bool, int, float, complex, str, bytes, type(None), type(...), BuiltinFunctionType,
    BuiltinMethodType, torch.dtype, torch.device, torch.Size, torch.layout, torch.memory_format,
)  # fmt: skip
# Packages whose functions are pure, apart from their generators.
_PURE: Final = frozenset(
    {"lincoln_fn", "torch", "numpy", "math", "cmath", "builtins", "functools", "itertools"}
    | {"operator", "typing", "collections", "attr", "attrs", "optree", "jaxtyping", "dataclasses"}
)
# Modules, and functions of Python, that act on the world or ask it.
_WORLD: Final = frozenset(
    {"random", "_random", "secrets", "time", "datetime", "os", "posix", "nt", "sys", "io", "_io"}
    | {"logging", "warnings", "socket", "subprocess", "threading", "tempfile", "tqdm"}
)
_ACTS: Final = frozenset(
    {"print", "open", "input", "exec", "eval", "globals", "setattr", "breakpoint"}
)
_MOST: Final = 200_000
_DEEPEST: Final = 8


class UnseenError(Exception):
    """A function reads something whose changes cannot be seen; the message says what."""


@attrs.frozen(eq=False)
class Fact:
    """A place that a user's function reads, and what was found there."""

    name: str
    read: Callable[[], object]
    found: object
    value: object

    def holds(self) -> bool:
        """Return whether the value is what it was."""
        try:
            now = self.read()
            if now is self.found and self.value is None:
                return True
            return now is self.found and snapshot(now) == self.value
        except (KeyError, AttributeError, ValueError, UnseenError):
            return False


def facts_of(function: object) -> list[Fact]:
    """Find what a function reads beside its arguments.

    Args:
        function: any function or object of functions, such as a layer.

    Returns:
        The facts.

    Raises:
        UnseenError: if it reads something whose changes cannot be seen.
    """
    facts: list[Fact] = []
    seen: dict[int, object] = {}
    rest = [function]
    while rest:
        value = rest.pop()
        if id(value) in seen or isinstance(value, (*_CONSTANT, Tensor)):
            continue
        seen[id(value)] = value  # kept, so that its id stays its own
        if len(seen) > _MOST:
            raise UnseenError("reaches too much to look through")
        if isinstance(value, FunctionType) and not _is_pure(value.__module__):
            for fact in _facts_of_function(value):
                facts.append(fact)
                rest.append(fact.found)
        elif _is_own(value):
            facts.append(_fact(f"a {type(value).__qualname__}", partial(_itself, value)))
        rest += _within(value)
    return facts


def _is_own(value: object) -> bool:
    """Return whether a value is of a user's own class."""
    is_of_python = isinstance(value, FunctionType | MethodType | partial | type | ModuleType)
    return not is_of_python and not _is_pure(type(value).__module__)


def _within(value: object) -> Iterator[object]:
    """List what a value holds."""
    if isinstance(value, FunctionType):
        yield from (cell.cell_contents for cell in value.__closure__ or () if not _is_empty(cell))
        yield from value.__defaults__ or ()
        yield from (value.__kwdefaults__ or {}).values()
    elif isinstance(value, partial):
        yield from (value.func, *value.args, *value.keywords.values())
    elif isinstance(value, MethodType):
        yield from (value.__func__, value.__self__)
    elif isinstance(value, tuple | list | set | frozenset):
        yield from value
    elif isinstance(value, dict):
        yield from value.values()
    elif isinstance(value, type):
        if not _is_pure(value.__module__):
            yield from vars(value).values()
    elif not isinstance(value, ModuleType):
        yield type(value)
        yield from _held(value).values()
        yield from (getattr(value, "__wrapped__", None), getattr(value, "fget", None))


def _facts_of_function(function: FunctionType) -> Iterator[Fact]:
    """Find what a user's function reads."""
    where = f"{function.__code__.co_filename}:{function.__code__.co_firstlineno}"
    of = f"of {function.__qualname__} ({where})"
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        if not _is_empty(cell):
            yield _fact(f"{name} {of}", partial(getattr, cell, "cell_contents"))
    names, held = set(_names(function.__code__)), function.__globals__
    acts = {name for name in names if _is_of_world(held.get(name))} | (names & _ACTS) - held.keys()
    if acts or ("random" in names and {"np", "numpy"} & names):
        raise UnseenError(f"uses {min(acts, default='numpy.random')}, in {of[3:]}")
    for name in sorted(names & held.keys()):
        yield _fact(f"{name} {of}", partial(held.__getitem__, name))
        yield from _attributes(held[name], name, names, of)
    for values in (function.__defaults__, (function.__kwdefaults__ or {}).values()):
        for value in values or ():
            yield _fact(f"a default {of}", partial(_itself, value))


def _attributes(owner: object, path: str, names: set[str], of: str) -> Iterator[Fact]:
    """List what a function may read of a user's module or class."""
    if isinstance(owner, ModuleType | type):
        is_pure = _is_pure(owner.__name__ if isinstance(owner, ModuleType) else owner.__module__)
        for name in () if is_pure else sorted(names & vars(owner).keys()):
            yield _fact(f"{path}.{name} {of}", partial(getattr, owner, name))
            if path.count(".") < _DEEPEST:
                yield from _attributes(getattr(owner, name), f"{path}.{name}", names, of)


def _fact(name: str, read: Callable[[], object]) -> Fact:
    found = read()
    try:
        return Fact(name, read, found, snapshot(found))
    except UnseenError:
        raise UnseenError(f"reads {name}, whose changes cannot be seen") from None


def snapshot(value: object, depth: int = 0) -> object:
    """Make what a value is comparable.

    Args:
        value: the value.
        depth: in how many others it lies.

    Returns:
        None for a value that cannot change, or whose functions are looked at on their own; else
        what it consists of.

    Raises:
        UnseenError: for a value whose changes cannot be seen, such as an iterator.
    """
    if isinstance(value, FunctionType) and value.__dict__:
        return snapshot(value.__dict__, depth + 1)
    if isinstance(value, (*_CONSTANT, type, ModuleType, FunctionType, partial)):
        return None
    if isinstance(value, Tensor):
        return value._version
    if isinstance(value, np.ndarray):
        return value.dtype, value.shape, value.tobytes()
    if _is_pure(type(value).__module__) and not isinstance(value, torch.Generator):
        is_stateful = type(value).__module__.startswith(("numpy.random", "itertools"))
        if not is_stateful and not isinstance(value, Mapping | list | tuple | set):
            return None
    if depth > _DEEPEST:
        raise UnseenError
    if isinstance(value, MethodType):
        return snapshot(value.__self__, depth + 1)
    if isinstance(value, tuple | list | set | frozenset):
        return [_entry(entry, depth) for entry in value]
    if isinstance(value, dict):
        return [(key, _entry(entry, depth)) for key, entry in value.items()]
    kind = type(value)
    if not attrs.has(kind) and (not hasattr(value, "__dict__") or hasattr(value, "__next__")):
        raise UnseenError
    shared = {name: each for name, each in vars(kind).items() if not name.startswith("__")}
    return snapshot(shared | _held(value), depth + 1)


def _held(value: object) -> dict[str, object]:
    """Give the attributes of an object by name."""
    kind: Any = type(value)  # Any: maybe a class that attrs has made
    names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else []
    own: dict[str, object] = getattr(value, "__dict__", None) or {}
    return {**own, **{name: getattr(value, name, None) for name in names}}


def _entry(value: object, depth: int) -> tuple[object, object]:
    """Make an entry comparable: a constant by its value, anything else by what it is and holds."""
    if type(value) in (bool, int, float, complex, str, bytes):
        return type(value), repr(value)
    return _Same(value), snapshot(value, depth + 1)


@attrs.frozen(eq=False)
class _Same:
    """An object, which is equal to itself alone."""

    value: object

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.value is self.value

    def __hash__(self) -> int:
        return id(self.value)


def _names(code: CodeType) -> Iterator[str]:
    """List the names that a code reads, and those of the functions that it makes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, CodeType):
            yield from _names(constant)


def _is_of_world(value: object) -> bool:
    """Return whether a value is a module, or a function of one, that acts on the world."""
    module = value.__name__ if isinstance(value, ModuleType) else getattr(value, "__module__", "")
    return str(module).partition(".")[0] in _WORLD


def _is_pure(module: str | None) -> bool:
    return str(module).partition(".")[0] in _PURE


def _is_empty(cell: CellType) -> bool:
    try:
        return cell.cell_contents is cell
    except ValueError:
        return True


def _itself(value: Any) -> Any:  # Any: a default of any kind
    return value
