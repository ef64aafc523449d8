"""Checks of a layer's functions, generated from their signatures when a file is imported.

    def backward(params: Params, cache: Cache, g: Float[Tensor, "*s"]) -> ...

`params` and `cache` are records of these classes, `x` is a floating tensor, `key` is a Key, and `g`
is like the tensor in the cache that has the same shape in its type. Where a call does not fit, a
check in `shapes` says what is wrong. What a signature cannot say, the function checks itself.

`constructor` checks the functions of a file that is named after its layer. Other functions, and
those that the file itself uses before its constructor, have the decorator `shape_checked`.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache, wraps
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar

import attrs
from torch import Tensor

from lincoln_fn.errors import later

P = ParamSpec("P")
R = TypeVar("R")

_NOT_LIKE: Final = (
    "not isinstance({like}, Tensor) or not isinstance(g, Tensor) or g.shape != {like}.shape"
    " or g.dtype is not {like}.dtype or g.device != {like}.device"
)


def shape_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check what a layer's function is given by the types in its signature.

    Args:
        function: `init(key, x)`, `forward(params, x)`, `backward(params, cache, g)` or the like, in
            the file that is named after the layer. The cache may have any name.

    Returns:
        The function, with its checks.

    Raises:
        LayerError: from the function, as those of `shapes` do.

    Example:
        >>> from lincoln_fn.layers import tanh
        >>> tanh.backward((), torch.zeros(2, 4), torch.zeros(2, 3))
        Traceback (most recent call last):
        lincoln_fn.LayerError: tanh: expected g of shape (2, 4), got (2, 3)
    """
    if hasattr(function, "is_shape_checked"):
        return function
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    options = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    hints = function.__annotations__
    given = ", ".join([*names, *(["*"] if options else []), *options])
    passed = ", ".join([*names, *(f"{name}={name}" for name in options)])
    lines = [
        f"    if {wrong}: later.{told}"
        for wrong, told in _checks(names, hints, function.__globals__)
    ]
    source = "\n".join(
        [
            "def make(function, Tensor, Params, Cache, _layer, later):",
            f"  def {function.__name__}({given}):",
            *lines,
            f"    return function({passed})",
            f"  return {function.__name__}",
        ]
    )
    made: dict[str, Any] = {}  # Any: a function
    exec(_compiled(source), function.__globals__, made)
    classes = (function.__globals__.get(hints[name]) for name in names[:2])
    layer = function.__module__.rpartition(".")[2]
    # Any: a function whose attributes are set.
    checked: Any = wraps(function)(made["make"](function, Tensor, *classes, layer, later))
    del checked.__wrapped__  # its signature is its own, and so are its defaults
    checked.__kwdefaults__ = function.__kwdefaults__
    checked.is_shape_checked = True
    where = {"co_filename": code.co_filename, "co_firstlineno": code.co_firstlineno}
    checked.__code__ = checked.__code__.replace(**where)  # for a traceback
    result: Callable[P, R] = checked
    return result


@cache
def _compiled(source: str) -> CodeType:
    """Compile the code, all of it in its first line."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.stmt | ast.expr | ast.arg):
            node.lineno = node.end_lineno = 1
    return compile(tree, "<checks>", "exec")


def _checks(
    names: tuple[str, ...], hints: dict[str, str], names_of: dict[str, Any]
) -> list[tuple[str, str]]:
    """List when the arguments are wrong, and the check that says so."""
    first, second, *rest = names
    # Any: a class, or the text of a type that has no name.
    kinds: list[Any] = [names_of.get(hints[name], hints[name]) for name in names[:2]]
    text = kinds[1] if isinstance(kinds[1], str) else getattr(kinds[1], "__name__", "")
    is_floating = text.startswith("Float[") and " | " not in text
    if first == "key":
        return [("True", f"check_example(_layer, key, {second if is_floating else None})")]
    found, like = [], ""
    if attrs.has(kinds[0]):
        found = [(f"type({first}) is not Params", f"check_params(_layer, {first}, Params)")]
    elif kinds[0] == "tuple[()]" and not rest:  # params are not read on the way back
        found = [(f"type({first}) is not tuple or {first}", f"check_params(_layer, {first}, None)")]
    if attrs.has(kinds[1]):
        found += [(f"type({second}) is not Cache", f"check_cache(_layer, {second}, Cache)")]
        fields = kinds[1].__annotations__.items()
        like = next((f"{second}.{key}" for key, hint in fields if hint == hints.get("g")), "")
    elif is_floating and rest:
        like = second if hints[second] == hints.get("g") else ""
    elif is_floating:
        wrong = f"not isinstance({second}, Tensor) or not {second}.is_floating_point()"
        found += [(wrong, f"check_input(_layer, (), {second})")]
    if like:
        found += [(_NOT_LIKE.format(like=like), f"check_cotangent(_layer, g, {like})")]
    return found
