"""Checks of a constructor's arguments: the signature has the ranges, `checked` enforces them.

    @checked
    def dropout(p: Probability = 0.5) -> Layer: ...

    dropout(2)      LayerError: dropout: expected p from 0 to 1, got 2
    dropout("a")    LayerError: dropout: expected p to be a finite number from 0 to 1, got 'a'

To a type checker a `Probability` is a float and a `PositiveInt` an int; the range follows the type,
in `Annotated`. A number without a range is any finite number. A condition between two arguments is
not a range: the constructor checks it by `require`.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from functools import cache, partial, wraps
from typing import Annotated, Any, Final, NamedTuple, ParamSpec, TypeAlias, TypeVar, get_type_hints

import torch

from lincoln_fn.errors import later
from lincoln_fn.errors.annotations import BY_HAND as BY_HAND
from lincoln_fn.errors.annotations import OR_INFINITE as OR_INFINITE
from lincoln_fn.errors.annotations import ByName, Function, Given, Hint, RefusedError, read
from lincoln_fn.errors.annotations import Range as Range
from lincoln_fn.errors.descriptions import shown
from lincoln_fn.errors.errors import unexpected, warn

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def at_least(least: float) -> Range:
    """Require a number of at least a minimum."""
    return Range(f"of at least {least}", lambda value: value >= least)


# Behind a type in `Annotated`: the call that names what is made shows the argument by its position.
BY_POSITION: Final = Range("", lambda value: True)
ByPosition: TypeAlias = Annotated[T, BY_POSITION]
# The same, and at its default, too.
ALWAYS_SHOWN: Final = Range("", lambda value: True)
Shown: TypeAlias = Annotated[T, ALWAYS_SHOWN]
NOT_EMPTY: Final = Range("with at least one entry", lambda value: len(value) > 0)

PositiveInt: TypeAlias = Annotated[int, at_least(1)]
NonNegativeInt: TypeAlias = Annotated[int, at_least(0)]
Positive: TypeAlias = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegative: TypeAlias = Annotated[float, at_least(0)]
Probability: TypeAlias = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
# What is added to a denominator.
Epsilon: TypeAlias = Annotated[
    float,
    at_least(0),
    Range(
        "",
        lambda value: value > 0,
        "gives 0 / 0 where a gradient is 0, which is nan, as in torch; write 1e-8",
    ),
]
Momentum: TypeAlias = Annotated[
    float,
    at_least(0),
    Range(
        "",
        lambda value: value <= 1,
        "makes each step longer than the one before, as in torch; write one below 1, such as 0.9",
    ),
]
# How much of a running mean is kept: less than all of it.
Decay: TypeAlias = Annotated[float, Range("in [0, 1)", lambda value: 0 <= value < 1)]
# A bound may be infinite, which means that there is none.
Bound: TypeAlias = Annotated[float, OR_INFINITE]
# The size of an axis, or -1 if it is found from x.
OpenSize: TypeAlias = Annotated[int, Range("positive or -1", lambda size: size > 0 or size == -1)]
FloatingDtype: TypeAlias = Annotated[
    torch.dtype, Range("of floating numbers", lambda dtype: dtype.is_floating_point)
]
# One number for every spatial axis, or one for each.
PositiveSizes: TypeAlias = PositiveInt | Annotated[tuple[PositiveInt, ...], NOT_EMPTY]
NonNegativeSizes: TypeAlias = NonNegativeInt | Annotated[tuple[NonNegativeInt, ...], NOT_EMPTY]


def checked(constructor: Callable[P, R]) -> Callable[P, R]:
    """Check a constructor's arguments by the types in its signature, each time it is called."""

    @wraps(constructor)
    def call(*args: Any, **kwargs: Any) -> R:  # Any: of any kind, until they are checked
        return call_with(constructor, read_arguments(constructor, args, kwargs))

    call.__dict__["is_checked"] = True
    return call


class Form(NamedTuple):
    """A function's parameters: their types, their defaults, and those that a call has to place."""

    signature: inspect.Signature
    hints: dict[str, Hint]
    defaults: ByName
    order: tuple[str, ...]  # () for one alone
    rest: str  # the parameter of all further arguments, such as "dims" for *dims; "" for none


# At the first call, when all names in the types are defined.
@cache
def form_of(function: Function) -> Form:
    """Read a function's parameters."""
    signature = inspect.signature(function)
    hints = get_type_hints(function, include_extras=True)
    defaults, order, rest = {}, [], ""
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            each: Any = hints[name]  # Any: a type, as a value
            hints[name], rest = tuple.__class_getitem__((each, ...)), name
        elif parameter.default is not parameter.empty:
            defaults[name] = parameter.default
        elif parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
            order.append(name)
    return Form(signature, hints, defaults, tuple(order) if len(order) > 1 else (), rest)


def read_arguments(function: Function, args: Given, kwargs: ByName) -> ByName:
    """Read the arguments that a call gives as the types in the function's signature, by name."""
    form, name = form_of(function), function.__name__
    try:
        given = form.signature.bind(*args, **kwargs).arguments
    except TypeError as error:
        raise _wrong_call(function, args, kwargs, error) from None
    later.check_order(name, args)
    read = partial(check_argument, name, order=form.order)
    return {key: read(key, form.hints[key], value) for key, value in given.items()}


def call_with(function: Callable[..., R], arguments: ByName) -> R:
    """Call a function with arguments by name."""
    if not form_of(function).rest:
        return function(**arguments)
    bound = inspect.BoundArguments(form_of(function).signature, dict(arguments))
    return function(*bound.args, **bound.kwargs)


def _wrong_call(function: Function, args: Given, kwargs: ByName, error: TypeError) -> TypeError:
    """Let Python report which argument is missing or unknown, and add what to write."""
    name, order = function.__name__, form_of(function).order
    if order[-2:] == ("key", "x"):
        given = ", ".join("lf.Key(0)" if each == "key" else each for each in order)
        later.check_not_missing(name, f"lf.{name}({given})", order, args, kwargs)
    said = f"{name}() {error}"
    try:
        function(*args, **kwargs)
    except TypeError as of_python:
        said = str(of_python) if str(of_python).startswith(f"{name}()") else said
    mend = later.suggest_call(name, form_of(function).signature, args, kwargs)
    return TypeError(f"{said}; {mend}" if mend else said)


def check_argument(
    function: str, name: str, hint: Hint, value: Any, order: Sequence[str] = ()
) -> Any:
    """Read an argument as a type; the error says what was expected, what was given and the mend."""
    try:
        value = read(hint, value)
        for asked in getattr(hint, "__metadata__", ()):
            if isinstance(asked, Range) and asked.doubt and not asked.holds(value):
                warn(f"{function}: {name}={value:g} {asked.doubt}")
        return value
    except RefusedError as refused:
        mend = later.suggest(refused.given, refused.kind)
        is_swapped = type(value).__name__.lower() in order  # a Loss for the net, say
        if name in order and refused.kind[:1].isupper() and (is_swapped or not mend):
            mend = f"the order is {function}({', '.join(order)})"
        expected = f"{name}{refused.place} {refused.expected}"
        raise unexpected(function, expected, shown(refused.given), mend) from None
