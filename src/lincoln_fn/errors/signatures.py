"""Checks of a layer's functions, generated from their signatures when a file is imported.

    @shape_checked
    def backward(params: Params, cache: Cache, g: Float[Tensor, "*s"]) -> ...

`params` and `cache` are records of these classes, `x` is a floating tensor, and `g` is like the
tensor in the cache that has the same shape in its type. Where a call does not fit, a check in
`shapes` says what is wrong. What a signature cannot say, the function checks itself.
"""

from __future__ import annotations

import ast
from collections.abc import Callable
from functools import cache, wraps
from types import CodeType
from typing import Any, Final, ParamSpec, TypeVar

from torch import Tensor

from lincoln_fn.errors import later

P = ParamSpec("P")
R = TypeVar("R")

_NO_PARAMS: Final = "type(params) is not tuple or params"
_OTHER_PARAMS: Final = "type(params) is not Params"
_NO_INPUT: Final = "not isinstance(x, Tensor) or not x.is_floating_point()"
_NOT_LIKE: Final = (
    "not isinstance({like}, Tensor) or not isinstance(g, Tensor) or g.shape != {like}.shape"
    " or g.dtype is not {like}.dtype or g.device != {like}.device"
)


def shape_checked(function: Callable[P, R]) -> Callable[P, R]:
    """Check what a layer's function is given by the types in its signature.

    Args:
        function: `forward(params, x)`, `backward(params, cache, g)` or the like, in the file that
            is named after the layer. The cache may have any name.

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
    code = function.__code__
    names = code.co_varnames[: code.co_argcount]
    options = code.co_varnames[code.co_argcount : code.co_argcount + code.co_kwonlyargcount]
    hints = function.__annotations__
    given = ", ".join([*names, *(["*"] if options else []), *options])
    passed = ", ".join([*names, *(f"{name}={name}" for name in options)])
    lines = [f"    {line}" for line in _checks(names, hints, function.__globals__)]
    source = "\n".join(
        [
            "def make(function, Tensor, Params, Cache, layer, later):",
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


def _checks(names: tuple[str, ...], hints: dict[str, str], names_of: dict[str, Any]) -> list[str]:
    """Write the lines that check the arguments."""
    has_params = hints["params"] == "Params"
    if names == ("params", "x"):
        wrong, expected = (_OTHER_PARAMS, "Params") if has_params else (_NO_PARAMS, "None")
        check = f"later.check_input(layer, params, x, {expected})"
        return [f"if {wrong} or {_NO_INPUT}:", f"  {check}"]
    # A layer without parameters does not read params on the way back.
    check = "  later.check_params(layer, params, Params)"
    lines = [f"if {_OTHER_PARAMS}:", check] if has_params else []
    cache = like = names[1]
    if hints[cache] == "Cache":
        check = f"  later.check_cache(layer, {cache}, Cache)"
        lines += [f"if type({cache}) is not Cache:", check]
        fields = names_of["Cache"].__annotations__.items()
        like += "." + next((key for key, hint in fields if hint == hints.get("g")), "")
    if "g" in names:
        wrong = _NOT_LIKE.format(like=like)
        lines += [f"if {wrong}:", f"  later.check_cotangent(layer, g, {like})"]
    return lines
