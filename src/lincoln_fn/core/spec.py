"""What a constructor made: which constructor was called, and with which arguments.

    layer = elu(0.5)
    layer.spec.of is elu
    layer.spec["alpha"]          0.5
    str(layer)                   "elu(alpha=0.5)", the text of the spec

Each layer, loss, optimizer, schedule or initializer of a constructor has a spec. One that is made
by hand has none, and works by its functions alone. One with another function than `init` is no
longer what its constructor makes, so `replace` drops the spec. Tables of other rooms are keyed by
`spec.of`, or by its file.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import FunctionType, ModuleType
from typing import Any, SupportsIndex, TypeVar, get_args, get_origin, get_type_hints

import attrs
from torch import Tensor

from lincoln_fn.errors import later
from lincoln_fn.errors.annotations import ByName, Function, Given
from lincoln_fn.errors.arguments import ALWAYS_SHOWN, BY_POSITION, form_of
from lincoln_fn.errors.descriptions import format_briefly


class Spec(str):
    """A call of a constructor: its text, the constructor, and all arguments by name."""

    of: Function
    arguments: ByName

    def __new__(cls, of: Function, arguments: ByName, text: str = "") -> Spec:
        """Write the call, without the arguments at their defaults, unless its text is given."""
        form = form_of(of)
        arguments = {**form.defaults, **({form.rest: ()} if form.rest else {}), **arguments}
        self = super().__new__(cls, text or _written(of, arguments))
        self.of, self.arguments = of, arguments
        return self

    # Any: an argument; an index gives letters, as of every text.
    def __getitem__(self, name: str | SupportsIndex | slice) -> Any:
        return self.arguments[name] if isinstance(name, str) else super().__getitem__(name)

    def __reduce__(self) -> tuple[Any, ...]:
        return Spec, (self.of, self.arguments, str(self))


@attrs.frozen(eq=False, repr=False)
class Made:
    """What a constructor makes: its functions, its name, and its spec, or None without one."""

    # Not an argument: what `attrs.evolve` makes of other functions has none.
    spec: Spec | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        kind: Any = type(self)  # Any: for mypy, this class has no hash
        functions = {name: getattr(self, name) for name in _functions_of(kind)}
        later.check_functions(kind.__name__, getattr(self, "name", ""), **functions)

    def __repr__(self) -> str:
        return str(getattr(self, "name", ""))


@cache
def _functions_of(kind: type) -> list[str]:
    return [name for name, hint in get_type_hints(kind).items() if get_origin(hint) is Callable]


M = TypeVar("M", bound=Made)


def with_spec(made: M, spec: Spec | None) -> M:
    """Give a spec to what has just been made, and what nobody else has seen yet."""
    object.__setattr__(made, "spec", spec)
    return made


def constructor_of(made: Made) -> Function | None:
    """Return the constructor that made a layer, a loss or an optimizer; None if it has no spec."""
    return None if made.spec is None else made.spec.of


def file_of(made: Made) -> ModuleType | None:
    """Return the module of the constructor: a row for it holds for all constructors in it."""
    return None if made.spec is None else sys.modules.get(made.spec.of.__module__)


def made_by(made: Made, *constructors: Function) -> bool:
    """Return whether one of some constructors made a layer, a loss or an optimizer."""
    return constructor_of(made) in constructors


def called(name: str) -> str:
    """Return what is called in the code that makes a layer: "elu" of "elu(alpha=0.5)"."""
    return name.partition("(")[0]


def call_of(function: Function, *args: Any, **kwargs: Any) -> Spec:
    """Write the call of a constructor, without the arguments at their defaults."""
    return Spec(function, form_of(function).signature.bind(*args, **kwargs).arguments)


def call_of_parts(function: Function, parts: Given, **options: Any) -> Spec:
    """Write the call of a combinator whose arguments are its parts and some options."""
    return call_of(function, *parts, **options)


def _written(function: Function, arguments: ByName) -> str:
    form = form_of(function)
    shown: list[str] = []
    for name in form.signature.parameters:
        value, marks = arguments.get(name, ()), get_args(form.hints[name])
        if name == form.rest:
            shown += map(_shown, value)
        elif name not in form.defaults or ALWAYS_SHOWN in marks:
            shown.append(_shown(value))
        elif value is not (default := form.defaults[name]) and value != default:
            shown.append(_shown(value) if BY_POSITION in marks else f"{name}={_shown(value)}")
    return f"{function.__name__}({', '.join(shown)})"


def _shown(value: object) -> str:
    """Write an argument: a function by its name, what else has an address as its class says.

    Several layers that are written alike are written once.
    """
    if isinstance(value, FunctionType):
        return value.__name__
    if type(value) is tuple and len(value) > 1 and isinstance(value[0], Made):
        first, *others = map(repr, value)
        return repr(value) if {first} != {*others} else f"({first},) * {len(value)}"
    text: str = getattr(type(value), "in_calls", "")
    return text or (format_briefly(value) if isinstance(value, Tensor) else repr(value))
