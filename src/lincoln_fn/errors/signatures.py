"""Checks of a layer's functions, generated from their signatures when a file is imported.

    def backward(params: Params, cache: Cache, g: Float[Tensor, "*s"]) -> ...

`params` and `cache` are records of these classes, `x` is a floating tensor, `key` is a Key, and `g`
is like what the cache holds of the same type, or as a `Like`. Where a call does not fit, a check in
`shapes` says what is wrong. What a signature cannot say, the function checks itself.

`constructor` has the functions of its file checked. `shape_checked` does so for any other.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import CodeType, FunctionType
from typing import Any, Final, ParamSpec, TypeVar

import attrs
from torch import Tensor

from lincoln_fn.errors import later

P = ParamSpec("P")
R = TypeVar("R")

_NO_TENSOR: Final = "not isinstance({like}, _Tensor) or "
_NOT_LIKE: Final = (
    "not isinstance(g, _Tensor) or g.shape != {like}.shape"
    " or g.dtype is not {like}.dtype or g.device != {like}.device"
)


def shape_checked(
    function: Callable[P, R], layer: str = "", *, over_axes: bool = False
) -> Callable[P, R]:
    """Check what a layer's function is given by the types in its signature.

    Args:
        function: `init(key, x)`, `forward(params, x)`, `backward(params, cache, g)` or the like.
            The cache may have any name.
        layer: what errors name, where the arguments do not say which of several layers was called;
            "" for the function's file.
        over_axes: whether there is a layer for each number of spatial axes.

    Returns:
        The function itself, which has its checks in front of its code. Where its signature says
        nothing that can be checked, it stays as it is.

    Raises:
        LayerError: from the function, as those of `shapes` do.

    Example:
        >>> from lincoln_fn.layers import tanh
        >>> tanh.backward((), torch.zeros(2, 4), torch.zeros(2, 3))
        Traceback (most recent call last):
        lincoln_fn.LayerError: tanh: expected g of shape (2, 4), got (2, 3)
    """
    code, own = function.__code__, function.__globals__
    takes_more = code.co_flags & (CO_VARARGS | CO_VARKEYWORDS) or code.co_freevars
    checks = [] if takes_more or "unchecked" in function.__dict__ else _checks(function)
    if not checks:
        return function
    unchecked = FunctionType(code, own, function.__name__)
    function.__dict__["unchecked"] = unchecked
    inner = f"_unchecked_{function.__name__}"
    while inner in own:  # of an earlier function of this name, as in a notebook
        inner += "_"
    own |= {inner: unchecked, "_Tensor": Tensor, "_later": later}

    names = code.co_varnames[: code.co_argcount]
    options = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    given = ", ".join([*names, *(["*"] if options else []), *options])
    passed = ", ".join([*names, *(f"{name}={name}" for name in options)])
    name = layer or function.__module__.rpartition(".")[2]
    called = f"_later.called({name!r}, {over_axes}, locals())"
    lines = [f"  if {wrong}: _later.{told.format(layer=called)}" for wrong, told in checks]
    source = "\n".join([f"def {code.co_name}({given}):", *lines, f"  return {inner}({passed})"])
    made: dict[str, Any] = {}  # Any: a function
    exec(_compiled(source), made)
    # The file, for a traceback.
    where = {"co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
    function.__code__ = made[code.co_name].__code__.replace(**where)
    return function


@cache
def _compiled(source: str) -> CodeType:
    """Compile the code, all of it in its first line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.arg):
            node.lineno = node.end_lineno = 1
    return compile(tree, "<checks>", "exec")


# Any: a function of any kind.
def _checks(function: Any) -> list[tuple[str, str]]:
    """List when the arguments are wrong, and the check that says so."""
    code, hints, own = function.__code__, function.__annotations__, function.__globals__
    names = code.co_varnames[: code.co_argcount]
    if names[:1] not in (("params",), ("key",)) or not {*names} <= hints.keys() or len(names) < 2:
        return []
    first, second, *rest = names
    # Any: a class, or the text of a type that has no name.
    kinds: list[Any] = [own.get(hints[name], hints[name]) for name in names[:2]]
    texts = [hints[name] if isinstance(hints[name], str) else _text(hints[name]) for name in names]
    is_floating = _text(kinds[1]).startswith("Float[") and " | " not in _text(kinds[1])
    if first == "key":
        return [("True", f"check_example({{layer}}, key, {second if is_floating else None})")]
    found, like, not_like = [], "", _NO_TENSOR + _NOT_LIKE
    if attrs.has(kinds[0]) and kinds[0].__name__ == texts[0]:
        told = f"check_params({{layer}}, params, {texts[0]})"
        found = [(f"type(params) is not {texts[0]}", told)]
    elif texts[0] == "tuple[()]" and not rest:  # params are not read on the way back
        found = [("type(params) is not tuple or params", "check_params({layer}, params, None)")]
    if attrs.has(kinds[1]):
        told = f"check_cache({{layer}}, {second}, {texts[1]})"
        found += [(f"type({second}) is not {texts[1]}", told)]
        fields = kinds[1].__annotations__.items() if rest else ()
        for key, hint in fields:
            if _text(hint) == "Like":
                like, not_like = f"{second}.{key}", _NOT_LIKE
            elif hint == hints.get("g"):
                like = like or f"{second}.{key}"
    elif is_floating and rest:
        like = second if hints[second] == hints.get("g") else ""
    elif is_floating:
        wrong = f"not isinstance({second}, _Tensor) or not {second}.is_floating_point()"
        found += [(wrong, f"check_input({{layer}}, (), {second})")]
    if like:
        found += [(not_like.format(like=like), f"check_cotangent({{layer}}, g, {like})")]
    return found


# Any: a type, or its text.
def _text(kind: Any) -> str:
    """Write a type as an annotation has it."""
    return kind if isinstance(kind, str) else getattr(kind, "__name__", str(kind))
