"""C++ functions of tensors, which Inductor builds and loads."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

from lincoln_fn.compiler.inductor.cache_folder import use_trusted_cache
from lincoln_fn.compiler.inductor.settings import VECTORS, compiler_flags


# A memo of what has been built.
@cache
def build(code: str, pointers: tuple[str, ...]) -> Callable[..., None]:
    """Build the function `kernel` of C++ code, whose arguments are pointers of these types."""
    from torch._inductor import config
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    with use_trusted_cache(), config.patch({**VECTORS, **compiler_flags()}):
        function: Callable[..., None] = CppPythonBindingsCodeCache.load_pybinding(pointers, code)
    return function
