"""What Inductor compiles for, and the folders of what it has compiled.

Every torch that pyproject.toml admits compiles steps. Three things need a version of Inductor with
which they have been tried: its C++ code calls this library's kernels, its libraries are found on
disk, and a state is updated within the graph. An older Inductor may update W before a product that
still reads W.

Inductor loads libraries from its cache by name, so whoever can write into the cache can have this
process run their code. A step is compiled, stored and loaded only in a folder that the user owns
and nobody else can write to. If the cache is another folder, such as one in a shared /tmp that
somebody else has made, the step is compiled in a temporary folder of this process.
"""

from __future__ import annotations

import hashlib
import os
import stat
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from functools import cache
from pathlib import Path
from typing import Any, Final

import torch

from lincoln_fn.runtime import VARIABLE, temporary_folder

IS_KNOWN: Final = torch.__version__ >= "2.13"
# Inductor takes the processor's vectors from torch. To test them itself takes seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}


def lanes() -> int:
    """Count the float32 numbers in one of the processor's vectors; 0 if Inductor knows none."""
    # Imported here, because Inductor takes longer than all the rest of the library; so below.
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    with config.patch(VECTORS):
        isa = pick_vec_isa()
        return isa.nelements() if isa else 0


def processor() -> str:
    """Return a hash of the processor and of the vectors that ATEN_CPU_CAPABILITY allows."""
    # Which older torches lack. Any: truths, numbers and names.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    properties = (
        torch.backends.cpu.get_cpu_capability(),
        os.environ.get("ATEN_CPU_CAPABILITY"),  # Inductor reads it again at each call
        sorted(capabilities.items()),
    )
    return hashlib.sha256(repr(properties).encode()).hexdigest()[:16]


def compiler_flags() -> dict[str, str]:
    """Return the setting of Inductor that adds our flags for the C++ compiler."""
    # Inductor's cache key does not contain the processor. Two processors that share a folder, or
    # one that is used with and without vectors, would get each other's code: code that does not
    # compile there, reads beyond its tensors, or ends the process. So the processor's number is
    # among the flags, which are part of the key.
    flags = (
        "off"  # a product and a sum stay two operations; one operation would round once
        # Nor may the C++ compiler assume that products of integers stay within 64 bits.
        " -fwrapv"
        f" -DLINCOLN_FN_PROCESSOR=0x{processor()}"
    )
    return {"cpp.enable_floating_point_contract_flag": flags}


def with_threads(number: int) -> AbstractContextManager[None]:
    """Compile for so many threads; torch's own number, which belongs to the process, stays."""
    from torch._inductor import config

    patched: AbstractContextManager[None] = config.patch({"cpp.threads": number})
    return patched


def threads_for(count: int) -> int:
    """Return how many threads can share examples, or heads, that are independent."""
    from torch._inductor import config

    of_graph: int = config.cpp.threads  # below 1 if none is being compiled
    return min(of_graph if of_graph > 0 else torch.get_num_threads(), count)


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
