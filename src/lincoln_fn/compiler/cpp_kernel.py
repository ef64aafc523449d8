"""C++ kernels that a compiled step calls, built for each shape as Inductor builds its own code.

For torch each is an operation, whose code Inductor writes into its own (inductor/lowering.py). A
torch whose Inductor has not been tried calls it through Python, and so do tests.

A kernel divides its work by the number of a loop, and never looks up which thread it runs on. A
kernel that Clang has built runs on the threads of Clang's OpenMP. The function that returns the
thread's number would be that of torch's OpenMP, which returns the same for all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Final, TypeAlias, TypeVar

import attrs
import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.settings import IS_KNOWN, build, lanes
from lincoln_fn.fastpath import Argument, Operation, operation

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
_FOLDER: Final = Path(__file__).with_name("kernels")


@attrs.frozen
class CppKernel:
    """A kernel in a file `{name}.cpp`, which is compiled after `vectors.h`."""

    # Its function takes the operation's tensors, each without gaps, and then its outputs.

    name: str
    # Both are called with the operation's arguments.
    plan: Callable[..., Plan]
    function: Callable[..., str]

    def __call__(self, *arguments: Argument) -> Tensor | tuple[Tensor, ...] | None:
        """Compute the outputs."""
        outputs, _ = self.plan(*arguments)
        tensors = [*(x for x in flatten_arguments(arguments) if isinstance(x, Tensor)), *outputs]
        pointers = tuple([POINTERS[x.dtype] for x in tensors])
        build(self.code(arguments, "kernel"), pointers)(*tensors)
        return result_of(outputs)

    def code(self, arguments: tuple[Argument, ...], name: str) -> str:
        """Write the code for such arguments, in a function of this name."""
        _, sizes = self.plan(*arguments)
        return _code(self.name, self.function(*arguments), name, **sizes)


# Each kernel's module adds its own when it is imported.
CPP_KERNELS: Final[dict[Operation, CppKernel]] = {}


def cpp_kernel(
    schema: str, plan: Callable[..., Plan], function: Callable[..., str] = lambda *arguments: ""
) -> Operation:
    """Register an operation that a C++ kernel computes, and return it."""
    # `plan` makes, of the arguments, tensors like the outputs, and the constants of the C++ code,
    # in capitals there. `function` writes the C++ function, if it is not in the file.
    name = schema.partition("(")[0]
    kernel = CppKernel(name, plan, function)
    registered = operation(schema, kernel, lambda *arguments: result_of(plan(*arguments)[0]))
    CPP_KERNELS[registered] = kernel
    return registered


def result_of(outputs: tuple[T, ...]) -> T | tuple[T, ...] | None:
    """Return a single output as it is, several as a tuple, and None for none."""
    return outputs[0] if len(outputs) == 1 else outputs or None


def flatten_arguments(arguments: Iterable[Argument]) -> Iterator[Argument]:
    """List an operation's arguments one by one, also those within lists."""
    for one in arguments:
        yield from one if isinstance(one, (list, tuple)) else (one,)


def are_called_for(x: Tensor) -> bool:
    """Return whether a compiled step calls kernels from C++, for tensors like x."""
    # True for float32 on a CPU whose vectors Inductor knows. Before torch 2.13 they would be called
    # through Python.
    return IS_KNOWN and x.dtype is torch.float32 and x.device.type == "cpu" and lanes() > 0


# A memo of the code that has been written.
@cache
def _code(file: str, function: str, name: str, **sizes: int) -> str:
    """Write a kernel's file in a namespace, after its constants, and export the function."""
    sizes = {"lanes": lanes(), **sizes}
    lines = [
        *(f"#include <{file}>" for file in _INCLUDED),
        f"namespace in_{name} {{",
        *(f"constexpr int64_t {size.upper()} = {int(n)};" for size, n in sizes.items()),
        (_FOLDER / "vectors.h").read_text(),
        ((_FOLDER / f"{file}.cpp").read_text() + function).replace(" kernel(", f" {name}("),
        f"}}\nusing in_{name}::{name};",
    ]
    return "\n".join(lines)
