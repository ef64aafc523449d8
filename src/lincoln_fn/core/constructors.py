"""A constructor's signature says it once: the types of its arguments, and their defaults.

    @constructor
    def elu(alpha: float = 1.0) -> Layer:
        return bare(Layer, forward, backward)

    elu("a")                LayerError: elu: expected alpha to be a finite number, got 'a'
    elu(0.5)                elu(alpha=0.5)
    elu(0.5).forward        forward, with alpha=0.5
    forward((), x)          alpha is 1.0, as for elu()

`constructor` checks the arguments as `checked` does. What is made has the call as its `Spec`, whose
text is its name, without the arguments at their defaults. Each of its functions gets the arguments
that it takes by keyword; what the constructor has bound itself stays. And the file's own `init`,
`forward` and `predict` have the constructor's defaults. What the functions of a layer are given is
checked by the types in their signatures, as `shape_checked` does.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from inspect import Parameter, Signature, signature, unwrap
from types import FunctionType
from typing import Any, Concatenate, NamedTuple, overload

from lincoln_fn.core.declaration import declare
from lincoln_fn.core.layer import Layer
from lincoln_fn.core.signatures import shape_checked, unbound
from lincoln_fn.core.spec import Made, Spec, with_spec
from lincoln_fn.errors.annotations import ByName, Function
from lincoln_fn.errors.arguments import P, R, call_with, read_arguments


class _Bare(NamedTuple):
    """What `constructor` completes: a maker (call, *functions) -> object, and functions for it."""

    make: Function
    functions: tuple[Function, ...]
    others: dict[str, Function]


# Any: a function that still lacks its hyperparameters is not of the type that `make` asks for.
def bare(make: Callable[..., R], *functions: Function, **others: Any) -> R:
    """Return make(call, *functions, **others) from a constructor, which completes the functions."""
    made: Any = _Bare(make, functions, others)  # Any: `constructor` makes an R of it
    result: R = made
    return result


@overload
def constructor(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def constructor(**traits: Any) -> Callable[[Callable[P, R]], Callable[P, R]]: ...
def constructor(function: Any = None, /, **traits: Any) -> Any:  # Any: as the overloads have it
    """Check a constructor's arguments, name what it makes, and bind the arguments to its functions.

    Args:
        function: returns `bare(Layer, forward, backward)`, or the like.
        **traits: what the file's own functions declare of the layer, as `lf.declare` explains:
            `@constructor(kind="dense", terms=terms)`.

    Example:
        >>> def forward(params, x, *, factor):
        ...     return factor * x, factor
        >>> def backward(params, factor, g):
        ...     return factor * g, ()
        >>> @constructor
        ... def scaled(factor: float = 2.0) -> lf.Layer:
        ...     return bare(lf.Layer, forward, backward)
        >>> scaled(), scaled(3.0), scaled(3.0).predict((), 5.0)
        (scaled(), scaled(factor=3.0), 15.0)
    """
    if function is None:
        return partial(constructor, **traits)
    _give_defaults(function)
    if traits:
        declare(*_declaring(function, traits), **traits)

    @wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:  # Any: of any kind, until they are checked
        arguments = read_arguments(function, args, kwargs)
        lacking: Any = call_with(function, arguments)  # Any: as `bare` has returned it
        assert isinstance(lacking, _Bare), "a constructor returns bare(...)"
        spec, own = Spec(call, arguments), lacking.others.items()

        def complete(function: Function) -> Function:
            checked = shape_checked(function, call.__name__) if lacking.make is Layer else function
            return _with_arguments(checked, spec.arguments)

        bound = map(complete, lacking.functions)
        others = {key: complete(each) for key, each in own}
        result = lacking.make(spec, *bound, **others)
        return with_spec(result, spec) if isinstance(result, Made) else result

    call.__dict__["is_checked"] = True
    return call


def _declaring(function: Function, traits: ByName) -> list[Function]:
    own = getattr(unwrap(function), "__globals__", {})
    names = ["forward", "inference_forward"]
    if traits.keys() & {"terms", "dx_and_terms", "params"}:
        names.append("grads" if "grads" in own else "backward")
    return [own[name] for name in names if name in own]


def _give_defaults(function: Function) -> None:
    """Give the functions in a constructor's file its defaults, for those who call them directly."""
    defaults = {
        name: parameter.default
        for name, parameter in signature(function).parameters.items()
        if parameter.default is not Parameter.empty
    }
    own = getattr(unwrap(function), "__globals__", {})
    for target in map(own.get, ("init", "forward", "predict")):
        if isinstance(target, FunctionType) and target.__globals__ is own:  # the file's own
            asked = {name: defaults[name] for name in _keywords(target) if name in defaults}
            target.__kwdefaults__ = {**asked, **(target.__kwdefaults__ or {})}


def _keywords(function: object) -> tuple[str, ...]:
    code = getattr(function, "__code__", None)
    if code is None:
        return ()
    names: tuple[str, ...] = code.co_varnames
    return names[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]


def _with_arguments(function: Function, arguments: ByName) -> Function:
    """Bind the arguments that a function takes by keyword, unless they are already bound."""
    given = arguments_of(function)
    own = asked_of(unbound(function), arguments).items()
    new = {name: value for name, value in own if name not in given}
    return partial(function, **new) if new else function


def asked_of(function: Function, arguments: ByName) -> dict[str, Any]:  # Any: as there
    """Return the arguments that a function takes by keyword; all, if it is one that `takes_all`."""
    if getattr(function, "takes_all", False):
        return dict(arguments)
    return {name: arguments[name] for name in _keywords(unwrap(function)) if name in arguments}


def takes_all(function: Callable[P, R]) -> Callable[P, R]:
    """Mark a function of **options that shall get every argument of a constructor."""
    function.__dict__["takes_all"] = True
    return function


# Any: as above.
def arguments_of(function: object) -> dict[str, Any]:
    """Return the arguments by keyword that a constructor has bound to a function."""
    return dict(getattr(function, "keywords", {}))


# Any: functions of any kind, as above.
def bind_like(function: Any, own: Any, *args: Any) -> Any:
    """Bind a function to the arguments by keyword that a constructor has bound to another."""
    return partial(function, *args, **own.keywords) if isinstance(own, partial) else function


def over_axes(
    family: Callable[Concatenate[int, P], R],
    **traits: Any,  # Any: as in `constructor`
) -> tuple[Callable[P, R], Callable[P, R], Callable[P, R]]:
    """Make the constructors of a family of layers, over one, two and three spatial axes.

    The first argument of `family` is their number. It is named after the family: `_conv_nd`.
    """
    first, second, third = (_with_axes(family, n, traits) for n in (1, 2, 3))
    return first, second, third


def _with_axes(family: Callable[Concatenate[int, P], R], n: int, traits: ByName) -> Callable[P, R]:
    @wraps(family)
    def call(*args: P.args, **kwargs: P.kwargs) -> R:
        return family(n, *args, **kwargs)

    made: Any = call  # Any: a function with an attribute of its own
    own = signature(family)
    made.__name__ = made.__qualname__ = f"{family.__name__.strip('_').removesuffix('_nd')}{n}d"
    made.__signature__ = Signature(
        list(own.parameters.values())[1:], return_annotation=own.return_annotation
    )
    made_of: Callable[P, R] = constructor(call, **traits)
    return made_of
