"""Operations on `meta` do not import torch's compiler.

There, torch runs functions in Python, and keeps its compiler from tracing many of them. It imports
the compiler for that at their first call, which takes seconds, also in a program that compiles
nothing. Nothing can trace a function before the compiler is imported: until then, they are called
as they are.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import cache
from types import CellType, FunctionType
from typing import Any, Final

import torch

# Where torch looks for the function that its compiler does not trace.
_DISABLED: Final = "__dynamo_disable"
_MODULES: Final = ("torch._refs", "torch._decomp.decompositions", "torch._meta_registrations")


@cache
def defer_compiler() -> None:
    """Let torch import its compiler when something is compiled, and not for shapes on `meta`."""
    protect: Any = getattr(torch, "_disable_dynamo", None)  # Any: private, and may be gone
    code = None if protect is None else protect(defer_compiler).__code__
    seen: set[int] = set()
    new = [each for name, module in [*sys.modules.items()] if name.startswith(_MODULES)
           for each in vars(module).values()]  # fmt: skip
    while new:
        function = new.pop()
        if not isinstance(function, FunctionType) or id(function) in seen:
            continue
        seen.add(id(function))
        names, cells = function.__code__.co_freevars, function.__closure__ or ()
        # Any: whatever a function holds
        found: dict[str, Any] = dict(zip(names, (_content(cell) for cell in cells), strict=True))
        if function.__code__ is code and not hasattr(found["fn"], _DISABLED):
            setattr(found["fn"], _DISABLED, _deferred(found["fn"], found["recursive"]))
        new += found.values()  # a wrapper holds what it wraps


def _content(cell: CellType) -> object:
    try:
        return cell.cell_contents
    except ValueError:  # it is empty
        return None


def _deferred(function: Callable[..., Any], recursive: bool) -> Callable[..., Any]:
    def call(*arguments: Any, **options: Any) -> Any:  # Any: as the function has them
        disable = getattr(sys.modules.get("torch._dynamo"), "disable", None)
        if disable is None:
            return function(*arguments, **options)
        disabled = disable(function, recursive, wrapping=False)
        setattr(function, _DISABLED, disabled)
        return disabled(*arguments, **options)

    return call
