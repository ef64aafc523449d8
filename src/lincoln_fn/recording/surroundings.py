"""What a user's functions read beside their arguments, and whether it has changed since.

A user's function may read a global name, a variable of the function around it, a default, or an
attribute of an object. These are found by following it to all that it can reach. Where something
may change on the way, what a name stands for or what a list or an object holds, that is a fact. A
recorded program holds as long as its facts do. What a function reads of a generator, or shows to
other code than torch's, is seen while it runs.
"""

from __future__ import annotations

import random
import types
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from inspect import getattr_static
from typing import Any, Final, TypeAlias

import attrs
import numpy as np
import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.runtime import content_of

# Values that cannot change. A program reads the numbers of a tensor anew.
_CONSTANT: Final = (
    bool, int, float, complex, str, bytes, type(None), type(...), types.BuiltinFunctionType,
    types.BuiltinMethodType, types.ModuleType, torch.dtype, torch.device, torch.Size, torch.layout,
    torch.memory_format, Tensor,
)  # fmt: skip
_BY_NAME: Final = (dict, types.MappingProxyType)
# Values that hold what others have put there, whoever's their class is.
_HOLDS: Final = (
    tuple, frozenset, list, set, deque, *_BY_NAME, np.ndarray, partial, types.MethodType, type,
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
# Functions that show a tensor's numbers, or its memory, to other code than torch's.
_SHOW: Final = frozenset(
    {
        *(Tensor.numpy, Tensor.tolist, Tensor.__array__, Tensor.data_ptr),
        *(Tensor.__dlpack__, Tensor.__reduce_ex__, Tensor.__deepcopy__, Tensor.register_hook),
        getattr_static(Tensor, "data").__set__,
    }
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

    def holds(self) -> bool:
        """Return whether the place has what it had."""
        try:
            return _is_same(self.read(), self.found)
        except (KeyError, AttributeError):
            return False


def facts_of(function: object) -> list[Fact]:
    """Find what a function reads beside its arguments, or say what cannot be seen to change."""
    facts: list[Fact] = []
    seen: dict[int, object] = {}
    rest: list[tuple[str, object]] = [("", function)]
    while rest:
        name, value = rest.pop()
        if id(value) in seen or isinstance(value, _CONSTANT):
            continue
        seen[id(value)] = value  # kept, so that its id stays its own
        if len(seen) > _MOST:
            raise UnseenError("reaches too much to look through")
        for of_place, read in _reads(value, name):
            found = read()
            if of_place:
                facts.append(Fact(of_place, read, found))
            rest += [(of_place, each) for each in (found if type(found) is tuple else (found,))]
    return facts


# Functions that read what a value holds, by the name of the place; "" if it is the library's.
Reads: TypeAlias = Iterable[tuple[str, Callable[[], object]]]


def _reads(value: Any, name: str) -> Reads:  # Any: whatever a function reaches
    """List how to read a value that a user's function reaches by a name, "" for none."""
    is_ours, kind = _package(value) in _PURE, type(value)
    if isinstance(value, types.FunctionType) and not is_ours:
        return _reads_of_function(value)
    if is_ours:
        is_stateful = kind.__module__.startswith(("numpy.random", "itertools"))
        is_seen = not (is_stateful or isinstance(value, torch.Generator))
    else:
        name = name or f"a {getattr(value, '__qualname__', kind.__qualname__)}"
        is_seen = attrs.has(kind) or (hasattr(value, "__dict__") and not hasattr(value, "__next__"))
    holds = isinstance(value, _HOLDS)
    if name and not (is_seen or holds):
        raise UnseenError(f"reads {name}, whose changes cannot be seen")
    # What only the library's objects hold is theirs.
    return [(name if holds or not is_ours else "", partial(_inside, value))]


def _inside(value: Any) -> tuple[object, ...]:  # Any: likewise
    """List what a value consists of; of a memo, on which no result depends, nothing."""
    if isinstance(value, types.FunctionType):
        return (*map(content_of, value.__closure__ or ()), *_defaults(value))
    if isinstance(value, partial):
        return value.func, *value.args, *value.keywords.values()
    if isinstance(value, types.MethodType):
        return value.__func__, value.__self__
    if isinstance(value, np.ndarray):
        return value.dtype.str, value.shape, value.tobytes()
    if isinstance(value, _BY_NAME):
        return *value.keys(), *value.values()
    if isinstance(value, type):
        of_user = {} if _package(value) in _PURE else vars(value)
        return tuple(each for name, each in of_user.items() if not name.startswith("__"))
    if isinstance(value, tuple | frozenset | list | set | deque):
        return tuple(value)
    if getattr(type(value), "is_memo", False):
        return ()
    kind: Any = type(value)  # Any: maybe a class that attrs has made
    names = [field.name for field in attrs.fields(kind)] if attrs.has(kind) else []
    own = getattr(value, "__dict__", None) or {}
    fields = (getattr(value, name, None) for name in (*names, "__wrapped__", "fget"))
    return kind, *own.values(), *fields


def _reads_of_function(function: types.FunctionType) -> Reads:
    """List how to read what a user's function reads."""
    code, known = function.__code__, function.__globals__
    where = f"{function.__qualname__} ({code.co_filename}:{code.co_firstlineno})"
    names = {*_names(code)}
    acts = {name for name in names if _package(known.get(name)) in _WORLD}
    acts |= (names & _ACTS) - {*known}
    if acts or ("random" in names and {"np", "numpy"} & names):
        raise UnseenError(f"uses {min(acts, default='numpy.random')}, in {where}")
    for name, cell in zip(code.co_freevars, function.__closure__ or (), strict=True):
        yield f"{name} of {where}", partial(content_of, cell)
    for name, read in _reads_by_name(known, names):
        yield f"{name} of {where}", read
    yield f"a default or an attribute of {where}", partial(_defaults, function)


def _reads_by_name(known: Mapping[str, object], names: set[str], path: str = "") -> Reads:
    """List how to read globals of some names, and what of these a user's modules have."""
    for name in sorted(names & known.keys()):
        yield f"{path}{name}", partial(known.__getitem__, name)
        owner = known[name]
        is_own = isinstance(owner, types.ModuleType) and _package(owner) not in _PURE
        if is_own and path.count(".") < _DEEPEST:
            yield from _reads_by_name(vars(owner), names, f"{path}{name}.")


def _defaults(function: types.FunctionType) -> tuple[object, ...]:
    by_name = {**(function.__kwdefaults__ or {}), **function.__dict__}
    return *(function.__defaults__ or ()), *by_name.values()


def _is_same(now: object, before: object) -> bool:
    """Return whether two things are one, equal constants, or tuples of such."""
    if type(now) is tuple and type(before) is tuple:
        return len(now) == len(before) and all(map(_is_same, now, before))
    if now is before or type(now) is not type(before):
        return now is before
    if isinstance(now, bytes):
        return now == before
    return isinstance(now, bool | int | float | complex | str) and repr(now) == repr(before)


def _names(code: types.CodeType) -> Iterator[str]:
    """List the names that a code reads, and those of the functions that it makes."""
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _package(value: Any) -> str:  # Any: likewise
    """Name the package of a module, of a function, of a class, or of an object's class."""
    of_itself = isinstance(value, types.FunctionType | types.BuiltinFunctionType | type)
    owner = value if of_itself else type(value)
    module = value.__name__ if isinstance(value, types.ModuleType) else owner.__module__
    return str(module).partition(".")[0]


def generator_states() -> tuple[object, ...]:
    """Give the states of the generators of Python, numpy and torch."""
    of_numpy: Any = np.random.get_state()  # noqa: NPY002  # Any: a tuple or a dict, says numpy
    name, numbers, *rest = of_numpy
    on_devices = torch.cuda.get_rng_state_all() if torch.cuda.is_available() else []
    states = (state.tolist() for state in (torch.get_rng_state(), *on_devices))
    return random.getstate(), name, numbers.tolist(), *rest, *states


class Showing(TorchFunctionMode):
    """A mode that sees which functions show a tensor's numbers to other code than torch's."""

    def __init__(self, refuse: Callable[[str], None]) -> None:
        super().__init__()
        self.refuse = refuse

    def __torch_function__(
        self,
        func: Callable[..., object],
        types: object,
        args: tuple[object, ...] = (),
        kwargs: dict[str, object] | None = None,
    ) -> object:
        if func in _SHOW:
            name = getattr(func, "__name__", str(func))
            self.refuse(f"shows a tensor's numbers to other code than torch's, by {name}")
        return func(*args, **(kwargs or {}))
