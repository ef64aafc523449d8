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
from collections.abc import Callable
from functools import cache, wraps
from typing import Annotated, Any, Final, ParamSpec, TypeAlias, TypeVar, get_type_hints

import torch

from lincoln_fn._hints import OR_INFINITE as OR_INFINITE
from lincoln_fn._hints import Hint, RefusedError, read
from lincoln_fn._hints import Range as Range
from lincoln_fn._mends import mend_of, shown
from lincoln_fn._torch_order import check_order, in_our_order
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError

P = ParamSpec("P")
R = TypeVar("R")


def at_least(least: float) -> Range:
    """Require a number of at least a minimum.

    Args:
        least: the minimum.

    Returns:
        The range.

    Example:
        >>> at_least(1).words, at_least(1).holds(0)
        ('of at least 1', False)
    """
    return Range(f"of at least {least}", lambda value: value >= least)


NOT_EMPTY: Final = Range("with at least one entry", lambda value: len(value) > 0)

PositiveInt: TypeAlias = Annotated[int, at_least(1)]
NonNegativeInt: TypeAlias = Annotated[int, at_least(0)]
Positive: TypeAlias = Annotated[float, Range("above 0", lambda value: value > 0)]
NonNegative: TypeAlias = Annotated[float, at_least(0)]
Probability: TypeAlias = Annotated[float, Range("from 0 to 1", lambda value: 0 <= value <= 1)]
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
    """Check a constructor's arguments by the types in its signature, each time it is called.

    Args:
        constructor: a function.

    Returns:
        The same function, which raises a `LayerError` for an argument that is not of its type.

    Example:
        >>> @checked
        ... def dense(n_out: PositiveInt, *, bias: bool = True) -> str:
        ...     return f"dense({n_out})"
        >>> dense(0)
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: dense: expected n_out of at least 1, got 0
    """

    @wraps(constructor)
    def call(*args: Any, **kwargs: Any) -> R:  # Any: of any kind, until they are checked
        signature, hints = _written(constructor)
        try:
            bound = signature.bind(*args, **kwargs)
        except TypeError:  # one is missing or unknown, which Python's own error names
            return _called(constructor, args, kwargs)
        check_order(constructor.__name__, args)
        for name, value in bound.arguments.items():
            bound.arguments[name] = _argument(constructor.__name__, name, hints[name], value)
        return constructor(*bound.args, **bound.kwargs)

    made: Any = call  # Any: a function with an attribute of its own
    made.is_checked = True
    result: Callable[P, R] = made
    return result


# At the first call, when all names in the types are defined.
@cache
def _written(constructor: Callable[..., Any]) -> tuple[inspect.Signature, dict[str, Hint]]:
    """Read a constructor's signature and its types."""
    signature = inspect.signature(constructor)
    hints = get_type_hints(constructor, include_extras=True)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_POSITIONAL:
            each: Any = hints[name]  # Any: a type, as a value
            hints[name] = tuple.__class_getitem__((each, ...))
    return signature, hints


# Any: of any kind, for they are not checked.
def _called(constructor: Callable[..., R], args: tuple[Any, ...], kwargs: dict[str, Any]) -> R:
    """Let Python report which argument is missing or unknown, and add what to write."""
    try:
        return constructor(*args, **kwargs)
    except TypeError as error:
        mend = in_our_order(constructor.__name__, args)
        raise TypeError(f"{error}; {mend}") if mend else error from None


def require(holds: bool, constructor: str, expected: str, given: object) -> None:
    """Check a condition between a constructor's arguments.

    Args:
        holds: whether the condition holds.
        constructor: the constructor's name.
        expected: what is expected of which argument, such as "low below high".
        given: what was given.

    Raises:
        LayerError: if it does not hold.

    Example:
        >>> require(2 < 1, "uniform", "low below high", (2, 1))
        Traceback (most recent call last):
        lincoln_fn.shapes.LayerError: uniform: expected low below high, got (2, 1)
    """
    if not holds:
        raise LayerError(constructor, f"expected {expected}, got {_shown(given)}")


def _argument(constructor: str, name: str, hint: Hint, value: object) -> object:
    try:
        return read(hint, value)
    except RefusedError as refused:
        said = f"expected {name}{refused.place} {refused.expected}, got {_shown(refused.given)}"
        mend = mend_of(refused.given, refused.kind)
        raise LayerError(constructor, f"{said}; {mend}" if mend else said) from None


def _shown(value: object) -> str:
    return brief(value) if isinstance(value, torch.dtype | list | dict) else shown(value)
