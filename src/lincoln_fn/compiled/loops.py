"""Loops in C++ that a compiled step calls, built for each shape as Inductor builds its own code."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Final

# Inductor is to believe torch of the processor's vectors: to try them takes it seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}


def lanes() -> int:
    """Count the float32 numbers in one of the processor's vectors.

    Returns:
        The number; 0 if Inductor knows no vectors of this processor.
    """
    # Imported here, for Inductor takes longer than all the rest of the library.
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    with config.patch(VECTORS):
        isa = pick_vec_isa()
        return isa.nelements() if isa else 0


# A memo of what has been built, by shape.
@cache
def built(
    name: str, arguments: tuple[str, ...], headers: tuple[str, ...] = (), **constants: int
) -> Callable[..., None]:
    """Build the loop in a file of this folder, behind `vectors.h`.

    Args:
        name: the file's, without its ending.
        arguments: the types of its function's arguments, as C++ writes them.
        headers: files of this folder that come between.
        constants: what the file takes for granted, in capitals there.

    Returns:
        The function.
    """
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    constants = {"lanes": lanes(), **constants}
    lines = [f"constexpr int64_t {name.upper()} = {int(n)};" for name, n in constants.items()]
    here = Path(__file__).parent
    texts = [(here / file).read_text() for file in ("vectors.h", *headers, f"{name}.cpp")]
    source = "\n".join(["#include <torch/csrc/inductor/cpp_prefix.h>", *lines, *texts])
    function: Callable[..., None] = CppPythonBindingsCodeCache.load_pybinding(arguments, source)
    return function
