"""Checks of what a layer's functions are given, by the types in their signatures.

    def backward(params: Params, cache: Cache, g: Float[Tensor, "*s"]) -> ...

`params` and `cache` are records of these classes, `x` is a floating tensor, `key` is a Key, and `g`
is like what the cache holds of the same type, or as a `Like`. Where a call does not fit, a check in
`values` says what is wrong. What a signature cannot say, the function checks itself.

`constructor` puts these checks around the functions of the layers that it makes. The functions that
a layer has if it is given none are here, too, and its `init`: the key goes where x is.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from functools import lru_cache, partial, reduce
from types import FunctionType, MethodType
from typing import Any, Final

import attrs
import numpy as np
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.values import Arrays, Cache, Like, Params
from lincoln_fn.errors import later
from lincoln_fn.errors.annotations import Function
from lincoln_fn.errors.errors import unexpected


def shape_checked(function: Function, layer: str | Function = "") -> Function:
    """Put checks around a layer's function, by the types in its signature.

    Errors name `layer`, or the file of that function; without it, the file of the function itself.
    """
    inner = function.func if isinstance(function, partial) else function
    check, *types = _checks_of(inner)
    if check is None or (isinstance(function, partial) and function.args):
        return function
    bound = function.keywords if isinstance(function, partial) else {}
    named = layer or inner
    name = named if isinstance(named, str) else unbound(named).__module__.rpartition(".")[2]
    return partial(check, inner, name, *types, **bound)


def unbound(function: Function) -> Function:
    """Return a function without its checks, and without the arguments that are bound to it."""
    while isinstance(function, partial):
        function = function.args[0] if function.func in _CHECKS else function.func
    return function


@lru_cache(1024)
def _checks_of(function: Function) -> tuple[Any, ...]:  # Any: a check, and what it has to know
    """Find the check of a function, and the types that it checks; (None,) if there are none."""
    own = inspect.unwrap(function)
    code, hints = getattr(own, "__code__", None), getattr(own, "__annotations__", {})
    names: tuple[str, ...] = code.co_varnames[: min(code.co_argcount, 3)] if code else ()
    if names[:1] not in (("key",), ("params",)) or len(names) < 2 or not hints.keys() >= {*names}:
        return (None,)
    kinds = [_type_of(hints[name], own.__globals__) for name in names]
    of_params, of_cache = (kind if attrs.has(kind) else None for kind in kinds[:2])
    floats = [_is_floating(kind) for kind in kinds]
    if names[0] == "key":
        return _init, floats[1]
    check: Function
    types: tuple[object, ...]
    if names[2:] == ("g",):
        module = sys.modules.get(getattr(of_cache, "__module__", ""))
        home = vars(module) if module else own.__globals__
        fields = getattr(of_cache, "__annotations__", {}).items()
        types_of = [(key, _type_of(hint, home)) for key, hint in fields]
        like = [key for key, kind in types_of if kind is Like and floats[2]]
        like = like or [key for key, kind in types_of if kind == kinds[2]]
        if floats[1] and kinds[1] == kinds[2]:
            like = [""]
        check, types = _back, (of_params, of_cache, like[0] if like else None)
    elif of_cache is not None:
        check, types = _back, (of_params, of_cache, None)
    else:
        check, types = _there, (tuple if kinds[0] == "tuple[()]" else of_params, floats[1])
    return (None,) if all(each in (None, False) for each in types) else (check, *types)


def _type_of(hint: object, names: dict[str, Any]) -> Any:  # Any: a class, or the text itself
    """Find a type by its name in a file, such as `dense.Params`; `tuple[()]` has no name."""
    first, *rest = str(hint).split(".")
    found = reduce(lambda of, name: getattr(of, name, None), rest, names.get(first))
    return hint if found is None else found


def _is_floating(kind: object) -> bool:
    text = str(getattr(kind, "__name__", kind))
    return text.startswith("Float[") and " | " not in text


def _init(
    function: Function, layer: str, floats: bool, /, key: object, x: Arrays, **options: object
) -> Params:
    later.check_example(layer, key, x if floats else None)
    return function(key, x, **options)


def _there(
    function: Function, layer: str, kind: type | None, floats: bool, /, params: Params,
    x: Arrays, **options: object,
) -> Arrays | tuple[Arrays, Cache]:  # fmt: skip
    if kind and (type(params) is not kind or (kind is tuple and params)):
        later.check_params(layer, params, None if kind is tuple else kind)
    if floats and not (isinstance(x, Tensor) and x.is_floating_point()):
        later.check_input(layer, (), x)
    return function(params, x, **options)


def _back(
    function: Function, layer: str, kind: type | None, cache_kind: type | None, like: str | None,
    /, params: Params, cache: Cache, *g: Arrays, **options: object,
) -> Arrays | Params | tuple[Arrays, Params]:  # fmt: skip
    """Check what `backward` is given, or `advance`, which gets no g."""
    if kind and type(params) is not kind:
        later.check_params(layer, params, kind)
    if cache_kind and type(cache) is not cache_kind:
        later.check_cache(layer, cache, cache_kind)
    if like is not None:
        y = getattr(cache, like) if like else cache
        dy: Arrays = g[0] if g else options.get("g")
        is_like = isinstance(dy, Tensor) and isinstance(y, _HAVE_A_SHAPE)
        if not is_like or dy.shape != y.shape or dy.dtype is not y.dtype or dy.device != y.device:
            later.check_cotangent(layer, dy, y)
    return function(params, cache, *g, **options)


_HAVE_A_SHAPE: Final = (Tensor, Like)
_CHECKS: Final = (_init, _there, _back)


# By a function's name: the one that it takes its result from, and which of its two it is.
SOURCES: Final = {
    "predict": ("forward", 0),
    "input_grad": ("backward", 0),
    "grads": ("backward", 1),
}


def no_params(key: Key, x: Arrays) -> Params:
    """Initialise a layer that has no parameters."""
    return ()


def unchanged(params: Params, cache: Cache) -> Params:
    """Advance a layer that carries no state."""
    return params


# Any: y, dx or dparams, and what the layer's functions take.
def derived(name: str, source: Callable[..., tuple[Any, Any]], *given: Any) -> Any:
    """Compute y by the layer's `forward`, or dx or dparams by its `backward`."""
    of, place = SOURCES[name]
    made = source(*given)
    later.check_pair(name, of, made)
    return made[place]


def both(
    input_grad: Callable[..., Arrays], grads: Callable[..., Params], *given: Any
) -> tuple[Arrays, Params]:
    """Compute dx and dparams, each by its own function."""
    return input_grad(*given), grads(*given)


class Init(partial[Params]):
    """A layer's `init`, which moves the key to x's device, and says what is missing in a call.

    Params are made on the key's device, and this is the one place where a key is moved: the `init`
    of a network moves it to x. The parts get it as it then is, and most get an x on `meta`.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Params:  # Any: the key, x, and options
        """Call the function."""
        if len(arguments) + len(options) < 2 and not self._binds(*arguments, **options):
            later.check_not_missing(
                "init", "net.init(lf.Key(0), x)", ("key", "x"), arguments, options
            )
        given = dict(zip(("key", "x"), arguments, strict=False)) | options
        if isinstance(given.get("key"), Key):
            key = _beside(given["key"], given.get("x"))
            if arguments:
                arguments = (key, *arguments[1:])
            else:
                options["key"] = key
        params = super().__call__(*arguments, **options)
        _check_no_arrays(params)
        return params

    def _binds(self, *arguments: Any, **options: Any) -> bool:  # Any: as above
        """Return whether the function takes a call, as one of your own may without an x."""
        try:
            inspect.signature(self).bind(*arguments, **options)
        except (TypeError, ValueError):
            return False
        return True


def _beside(key: Key, x: Arrays) -> Key:
    """Move a key to the device of x's tensors that have values."""
    for leaf in tree.leaves(x):
        if isinstance(leaf, Tensor) and not leaf.is_meta:
            return key.near(leaf)
    return key


def _check_no_arrays(params: Params) -> None:
    """Refuse arrays of numpy, which no other function of the protocol takes."""
    for i, leaf in enumerate(tree.leaves(params)):
        if isinstance(leaf, np.ndarray):
            path = tree.paths(params)[i]
            got = f"an ndarray{path and f' at {path}'}"
            raise unexpected("init", "init to return tensors", got, "convert it by torch.as_tensor")


def as_init(init: Callable[[Key, Arrays], Params]) -> Callable[[Key, Arrays], Params]:
    """Make a function an `Init`, unless it is an object of another kind."""
    is_plain = isinstance(init, FunctionType | MethodType | partial)
    return Init(init) if is_plain and not isinstance(init, Init) else init
