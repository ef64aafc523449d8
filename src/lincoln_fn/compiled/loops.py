"""Loops in C++ that a compiled step calls, built for each shape as Inductor builds its own code.

Each is an operation for torch. Inductor writes its code into its own (lowering.py); a torch whose
Inductor has not been tried calls it by way of Python, as tests do.

A loop gives each thread a share by its number, and never asks which thread it runs on. Built by
Clang, it has threads of Clang's own OpenMP, and the question would go to torch's, which answers all
of them alike.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn.compiled.kernels import named
from lincoln_fn.compiled.private import trusted_cache
from lincoln_fn.compiled.versions import IS_KNOWN

T = TypeVar("T")

# Of an operation's arguments: the tensors that its loop makes, and the constants it is built for.
Like: TypeAlias = Callable[..., tuple[Tensor, ...]]
Sizes: TypeAlias = Callable[..., dict[str, int]]
# Of its arguments too: the function in C++ that a loop is called by.
Kernel: TypeAlias = Callable[..., str]

# Inductor is to believe torch of the processor's vectors: to try them takes it seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}
# Pointers to a tensor's numbers, as C++ writes them.
POINTERS: Final = {
    torch.float32: "float*",
    torch.float64: "double*",
    torch.bfloat16: "at::BFloat16*",
    torch.int64: "int64_t*",
    torch.int8: "int8_t*",
    torch.bool: "bool*",
}

_INCLUDED: Final = (
    "torch/csrc/inductor/cpp_prefix.h",
    "ATen/native/CPUBlas.h",
    "cstring",
    "memory",
    "type_traits",
    "vector",
)


@attrs.frozen
class Loop:
    """A loop in a file of this folder, `{name}.cpp`, behind `vectors.h` and other headers.

    Its function takes the operation's tensors, each without gaps, and then those that it makes.
    `like`, `sizes` and `kernel` are as `loop` takes them.
    """

    name: str
    headers: tuple[str, ...]
    like: Like
    sizes: Sizes
    kernel: Kernel | None

    def __call__(self, *given: Any) -> Any:  # Any: tensors and numbers; a tensor, or several
        """Make the tensors."""
        made = self.like(*given)
        tensors = [x.contiguous() for x in flat(given) if isinstance(x, Tensor)] + list(made)
        pointers = tuple([POINTERS[x.dtype] for x in tensors])
        _built(self.code(given, "kernel"), pointers)(*tensors)
        return result_of(made)

    def code(self, given: tuple[Any, ...], function: str) -> str:  # Any: as above
        """Write the loop for such arguments, as a function of some name."""
        files = *self.headers, f"{self.name}.cpp"
        kernel = self.kernel(*given) if self.kernel else ""
        return _code(files, kernel, function, **self.sizes(*given))


# Filled as the modules are imported, each with its own; Any: operations, of no public type.
LOOPS: Final[dict[Any, Loop]] = {}


def loop(
    schema: str,
    like: Like,
    sizes: Sizes,
    headers: tuple[str, ...] = (),
    kernel: Kernel | None = None,
) -> Any:  # Any: as above
    """Register an operation that a loop computes.

    Args:
        schema: its name, which is the file's too, arguments and results, as torch writes them.
        like: of its arguments, gives tensors like those that the loop makes.
        sizes: of its arguments, gives what the loop takes for granted, in capitals there.
        headers: files of this folder that come between `vectors.h` and the loop.
        kernel: of its arguments, writes the loop's function; None if it stands in the file.

    Returns:
        The operation.
    """
    made = Loop(schema.partition("(")[0], headers, like, sizes, kernel)
    operation = named(schema, made, lambda *given: result_of(like(*given)))
    LOOPS[operation] = made
    return operation


def result_of(made: tuple[T, ...]) -> T | tuple[T, ...] | None:
    """Give what an operation returns: one tensor as it is, several as a tuple, and None for none.

    Args:
        made: the tensors.

    Returns:
        The result.

    Example:
        >>> result_of((3,)), result_of((3, 4)), result_of(())
        (3, (3, 4), None)
    """
    return made[0] if len(made) == 1 else made or None


def flat(given: Iterable[Any]) -> Iterator[Any]:  # Any: tensors and others
    """List arguments of an operation one by one, of which some may be lists.

    Args:
        given: the arguments.

    Returns:
        Each that is no list, and each that is in one.

    Example:
        >>> list(flat((1, [2, 3], "4")))
        [1, 2, 3, '4']
    """
    for one in given:
        yield from one if isinstance(one, (list, tuple)) else (one,)


def threads_for(count: int) -> int:
    """Choose how many threads share examples, or heads, that do not wait for each other.

    Args:
        count: how many there are.

    Returns:
        As many as torch has, but no more than there are.
    """
    return min(torch.get_num_threads(), count)


def are_called_for(x: Tensor) -> bool:
    """Tell whether a compiled step calls loops from its own code, for tensors such as one.

    Args:
        x: the tensor.

    Returns:
        True on a CPU with vectors that Inductor knows; not before torch 2.13, which would call them
        by way of Python.
    """
    return IS_KNOWN and x.device.type == "cpu" and lanes() > 0


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


# A memo of what has been written.
@cache
def _code(files: tuple[str, ...], kernel: str, function: str, **sizes: int) -> str:
    """Write files in a namespace, behind their constants, and bring its function out of it."""
    sizes = {"lanes": lanes(), **sizes}
    here = Path(__file__).parent
    *headers, own = ((here / file).read_text() for file in ("vectors.h", *files))
    lines = [
        *(f"#include <{file}>" for file in _INCLUDED),
        f"namespace in_{function} {{",
        *(f"constexpr int64_t {name.upper()} = {int(n)};" for name, n in sizes.items()),
        *headers,
        (own + kernel).replace(" kernel(", f" {function}("),
        f"}}\nusing in_{function}::{function};",
    ]
    return "\n".join(lines)


# A memo of what has been built.
@cache
def _built(code: str, pointers: tuple[str, ...]) -> Callable[..., None]:
    from torch._inductor.codecache import CppPythonBindingsCodeCache

    with trusted_cache():
        function: Callable[..., None] = CppPythonBindingsCodeCache.load_pybinding(pointers, code)
    return function
