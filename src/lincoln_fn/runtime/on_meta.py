"""Operations on `meta` do not import torch's compiler, and do without its folder.

On `meta`, torch runs functions in Python, and keeps its compiler from tracing many of them. It
imports the compiler for that at their first call, which takes seconds, also in a program that
compiles nothing. Nothing can trace a function before the compiler is imported: until then, they are
called as they are.

torch computes a product's shape there by parts of its compiler, and the import of these makes the
compiler's folder. So where it cannot be made, nothing could be initialised.
"""

from __future__ import annotations

import os
import sys
import tempfile
import warnings
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import CellType, FunctionType
from typing import Any, Final, ParamSpec, TypeVar

import torch

P = ParamSpec("P")
R = TypeVar("R")
VARIABLE: Final = "TORCHINDUCTOR_CACHE_DIR"
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
        found: dict[str, Any] = dict(zip(names, (content_of(cell) for cell in cells), strict=True))
        if function.__code__ is code and not hasattr(found["fn"], _DISABLED):
            setattr(found["fn"], _DISABLED, _deferred(found["fn"], found["recursive"]))
        new += found.values()  # a wrapper holds what it wraps


def content_of(cell: CellType) -> object:
    """Return what a cell of a closure holds; None if it is empty."""
    try:
        return cell.cell_contents
    except ValueError:
        return None


def _deferred(function: Callable[P, R], recursive: bool) -> Callable[P, R]:
    def call(*arguments: P.args, **options: P.kwargs) -> R:
        disable = getattr(sys.modules.get("torch._dynamo"), "disable", None)
        if disable is None:
            return function(*arguments, **options)
        disabled: Callable[P, R] = disable(function, recursive, wrapping=False)
        setattr(function, _DISABLED, disabled)
        return disabled(*arguments, **options)

    return call


# A memo: torch makes the folder once a process, and finds it by the variable.
@cache
def make_cache_folder() -> None:
    """Make torch's cache folder; if that cannot be, have torch use a temporary one."""
    folder = Path(os.environ.get(VARIABLE) or tempfile.gettempdir())  # torch's own is in there
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        warnings.warn(
            f"compiled steps are not stored on disk, because {folder} cannot be made:"
            f" {error.strerror}; set {VARIABLE} to another folder",
            stacklevel=2,
        )
        os.environ[VARIABLE] = temporary_folder().name


# A memo: one folder for each process, which is removed when the process ends.
@cache
def temporary_folder() -> tempfile.TemporaryDirectory[str]:
    """Make a folder that nobody else can write to."""
    return tempfile.TemporaryDirectory(prefix="lincoln_fn_")
