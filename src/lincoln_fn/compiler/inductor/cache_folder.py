"""Folders of compiled code, and C++ functions that Inductor builds there.

Inductor loads libraries from its cache by name, so whoever can write into the cache can have this
process run their code. A step is compiled, stored and loaded only in a folder that the user owns
and nobody else can write to. If the cache is another folder, such as one in a shared /tmp that
somebody else has made, the step is compiled in a temporary folder of this process.
"""

from __future__ import annotations

import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from lincoln_fn.compiler.inductor.settings import VECTORS, compiler_flags
from lincoln_fn.runtime import VARIABLE, temporary_folder

_OTHERS: Final = stat.S_IWGRP | stat.S_IWOTH
_ROOT: Final = 0


def problem_of(path: Path) -> str | None:
    """Say why somebody else could have made or changed the file or folder at a path."""
    if sys.platform == "win32":
        return None
    me, real = os.geteuid(), path.resolve()
    for place in dict.fromkeys((path, *path.parents, real, *real.parents)):
        facts, is_last = place.lstat(), place in (path, real)
        if facts.st_uid not in ((me,) if is_last else (me, _ROOT)):
            return f"{place} belongs to another user, of id {facts.st_uid}"
        is_sticky = not is_last and facts.st_mode & stat.S_ISVTX
        if facts.st_mode & _OTHERS and not is_sticky and not stat.S_ISLNK(facts.st_mode):
            mode = stat.S_IMODE(facts.st_mode)
            return f"others can write {place}, of mode {mode:o}; `chmod go-w {place}` mends that"
    return None


def is_own_file(path: Path) -> bool:
    """Return whether a file is in its folder, and nobody else can have made or changed it."""
    is_linked = path.is_symlink() or path.parent.is_symlink()
    return not is_linked and path.is_file() and problem_of(path) is None


def cache_folder() -> Path:
    """Return Inductor's cache folder; if there is none, make it, for the user alone."""
    from torch._inductor.runtime.cache_dir_utils import cache_dir

    # Inductor would make it by the process's umask, which may let a group write to it.
    before = os.umask(0o077)
    try:
        return Path(cache_dir())
    finally:
        os.umask(before)


@contextmanager
def use_trusted_cache() -> Iterator[None]:
    """Have Inductor write and load its code in a folder that nobody else can write to."""
    # That is Inductor's own cache folder. If others can write to it, or its path has a space, which
    # Inductor does not quote for the C++ compiler, a warning says so, and a temporary folder is
    # used that this process removes.
    folder = cache_folder()
    problem = problem_of(folder) or (
        f"the path {folder} has a space" if " " in str(folder) else None
    )
    if problem is None:
        yield
        return
    warnings.warn(
        f"compiled steps are not stored on disk, because {problem}; or set {VARIABLE} to a folder"
        " of your own that nobody else can write to",
        stacklevel=2,
    )
    before = os.environ[VARIABLE]  # Inductor has set it, unless somebody else has
    os.environ[VARIABLE] = temporary_folder().name
    try:
        yield
    finally:
        os.environ[VARIABLE] = before


# A memo of what has been built.
@cache
def build(code: str, pointers: tuple[str, ...]) -> Callable[..., None]:
    """Build the function `kernel` of C++ code, whose arguments are pointers of these types."""
    from torch._inductor import config
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    with use_trusted_cache(), config.patch({**VECTORS, **compiler_flags()}):
        function: Callable[..., None] = CppPythonBindingsCodeCache.load_pybinding(pointers, code)
    return function
