"""C++ kernels that a compiled step calls, built for each shape as Inductor builds its own code.

For torch each is an operation. Inductor writes the kernel's code into its own
(inductor/lowering.py). A torch whose Inductor has not been tried calls it through Python, and so do
tests.

A kernel divides its work by the number of a loop, and never looks up which thread it runs on. A
kernel that Clang has built runs on the threads of Clang's OpenMP. The function that returns the
thread's number would be that of torch's OpenMP, which returns the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any, Final, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.build import build
from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.inductor.versions import IS_KNOWN
from lincoln_fn.compiler.kernels.torch_ops import register

T = TypeVar("T")

# Tensors like an operation's outputs, and the constants that its code is built for.
Plan: TypeAlias = tuple[tuple[Tensor, ...], dict[str, int]]

# Pointers to a tensor's numbers, as C++ writes them.
POINTERS: Final = {
    torch.float32: "float*",
    torch.float64: "double*",
    torch.int64: "int64_t*",
    torch.int8: "int8_t*",
    torch.bool: "bool*",
}

_INCLUDED: Final = (
    "torch/csrc/inductor/cpp_prefix.h",
    "cstring",
    "memory",
    "type_traits",
    "vector",
)
_VECTORS: Final = Path(__file__).parent / "common" / "vectors.h"


@attrs.frozen
class CppKernel:
    """A kernel in a file `{name}.cpp`, which is compiled after `vectors.h`."""

    # Its function takes the operation's tensors, each without gaps, and then its outputs.

    name: str
    file: Path
    # Both are called with the operation's arguments.
    plan: Callable[..., Plan]
    function: Callable[..., str]

    def __call__(self, *given: Any) -> Any:  # Any: tensors and numbers; a tensor, or several
        """Compute the outputs."""
        made, _ = self.plan(*given)
        tensors = [*(x for x in flatten_arguments(given) if isinstance(x, Tensor)), *made]
        pointers = tuple([POINTERS[x.dtype] for x in tensors])
        build(self.code(given, "kernel"), pointers)(*tensors)
        return result_of(made)

    def code(self, given: tuple[Any, ...], name: str) -> str:  # Any: as above
        """Write the code for such arguments, in a function of this name."""
        _, sizes = self.plan(*given)
        return _code(self.file, self.function(*given), name, **sizes)


# Each kernel's module adds its own when it is imported. Any: operations, of no public type.
CPP_KERNELS: Final[dict[Any, CppKernel]] = {}


def cpp_kernel(
    schema: str,
    folder: str,
    plan: Callable[..., Plan],
    function: Callable[..., str] = lambda *given: "",
) -> Any:  # Any: as above
    """Register an operation that a C++ kernel computes, and return it."""
    # `plan` makes, of the arguments, tensors like the outputs, and the constants of the C++ code,
    # in capitals there. `function` writes the C++ function, if it is not in the file.
    name = schema.partition("(")[0]
    made = CppKernel(name, Path(folder).with_name(f"{name}.cpp"), plan, function)
    operation = register(schema, made, lambda *given: result_of(plan(*given)[0]))
    CPP_KERNELS[operation] = made
    return operation


def result_of(made: tuple[T, ...]) -> T | tuple[T, ...] | None:
    """Return a single output as it is, several as a tuple, and None for none."""
    return made[0] if len(made) == 1 else made or None


def flatten_arguments(given: Iterable[Any]) -> Iterator[Any]:  # Any: tensors and others
    """List an operation's arguments one by one, also those within lists."""
    for one in given:
        yield from one if isinstance(one, (list, tuple)) else (one,)


def are_called_for(x: Tensor) -> bool:
    """Return whether a compiled step calls kernels from C++, for tensors like x."""
    # True for float32 on a CPU whose vectors Inductor knows. Before torch 2.13 they would be called
    # through Python.
    return IS_KNOWN and x.dtype is torch.float32 and x.device.type == "cpu" and lanes() > 0


# A memo of the code that has been written.
@cache
def _code(file: Path, function: str, name: str, **sizes: int) -> str:
    """Write a kernel's file in a namespace, after its constants, and export the function."""
    sizes = {"lanes": lanes(), **sizes}
    lines = [
        *(f"#include <{file}>" for file in _INCLUDED),
        f"namespace in_{name} {{",
        *(f"constexpr int64_t {size.upper()} = {int(n)};" for size, n in sizes.items()),
        _VECTORS.read_text(),
        (file.read_text() + function).replace(" kernel(", f" {name}("),
        f"}}\nusing in_{name}::{name};",
    ]
    return "\n".join(lines)
