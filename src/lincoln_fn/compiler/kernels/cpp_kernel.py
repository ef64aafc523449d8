"""C++ kernels that a compiled step calls, built for each shape as Inductor builds its own code.

Each is an operation for torch. Inductor writes its code into its own (inductor/lowering.py); a
torch whose Inductor has not been tried calls it by way of Python, as tests do.

A kernel gives each thread a share by its number, and never asks which thread it runs on. Built by
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

from lincoln_fn.compiler.inductor.build import built
from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.inductor.versions import IS_KNOWN
from lincoln_fn.compiler.kernels.torch_ops import named

T = TypeVar("T")

# Of an operation's arguments: tensors like its outputs, and the constants its code is built for.
Like: TypeAlias = Callable[..., tuple[Tensor, ...]]
Sizes: TypeAlias = Callable[..., dict[str, int]]
# Of its arguments too: the C++ function that is called.
Function: TypeAlias = Callable[..., str]

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
    "ATen/native/CPUBlas.h",
    "cstring",
    "memory",
    "type_traits",
    "vector",
)
_COMMON: Final = Path(__file__).parent / "common"


@attrs.frozen
class CppKernel:
    """A kernel in a file `{name}.cpp`, behind `vectors.h` and other headers.

    Its function takes the operation's tensors, each without gaps, and then its outputs. The fields
    are as `cpp_kernel` takes them.
    """

    name: str
    files: tuple[Path, ...]
    like: Like
    sizes: Sizes
    function: Function | None

    def __call__(self, *given: Any) -> Any:  # Any: tensors and numbers; a tensor, or several
        """Compute the outputs."""
        made = self.like(*given)
        tensors = [x.contiguous() for x in flat(given) if isinstance(x, Tensor)] + list(made)
        pointers = tuple([POINTERS[x.dtype] for x in tensors])
        built(self.code(given, "kernel"), pointers)(*tensors)
        return result_of(made)

    def code(self, given: tuple[Any, ...], name: str) -> str:  # Any: as above
        """Write the code for such arguments, whose function has some name."""
        function = self.function(*given) if self.function else ""
        return _code(self.files, function, name, **self.sizes(*given))


# Filled as the modules are imported, each with its own; Any: operations, of no public type.
CPP_KERNELS: Final[dict[Any, CppKernel]] = {}


def cpp_kernel(
    schema: str,
    folder: str,
    like: Like,
    sizes: Sizes,
    headers: tuple[str, ...] = (),
    function: Function | None = None,
) -> Any:  # Any: as above
    """Register an operation that a C++ kernel computes, and return it.

    Args:
        schema: its name, which is the file's too, arguments and results, as torch writes them.
        folder: the path of the module in the kernel's folder.
        like: of its arguments, gives tensors like its outputs.
        sizes: of its arguments, gives the constants of the code, in capitals there.
        headers: files of that folder, or of common/, that come between `vectors.h` and the code.
        function: of its arguments, writes the function; None if it is in the file.
    """
    name, own = schema.partition("(")[0], Path(folder).parent
    of_own = {path.name for path in own.iterdir()}
    files = [_COMMON / "vectors.h"]
    files += [(own if file in of_own else _COMMON) / file for file in (*headers, f"{name}.cpp")]
    made = CppKernel(name, tuple(files), like, sizes, function)
    operation = named(schema, made, lambda *given: result_of(like(*given)))
    CPP_KERNELS[operation] = made
    return operation


def result_of(made: tuple[T, ...]) -> T | tuple[T, ...] | None:
    """Give what an operation returns: one tensor as it is, several as a tuple, and None for none.

    Example:
        >>> result_of((3,)), result_of((3, 4)), result_of(())
        (3, (3, 4), None)
    """
    return made[0] if len(made) == 1 else made or None


def flat(given: Iterable[Any]) -> Iterator[Any]:  # Any: tensors and others
    """List arguments of an operation one by one, of which some may be lists.

    Example:
        >>> list(flat((1, [2, 3], "4")))
        [1, 2, 3, '4']
    """
    for one in given:
        yield from one if isinstance(one, (list, tuple)) else (one,)


def threads_for(count: int) -> int:
    """Choose how many threads share examples, or heads, that do not wait for each other."""
    return min(torch.get_num_threads(), count)


def are_called_for(x: Tensor) -> bool:
    """Tell whether a compiled step calls kernels from its own code, for tensors such as one.

    True on a CPU with vectors that Inductor knows; not before torch 2.13, which would call them by
    way of Python.
    """
    return IS_KNOWN and x.device.type == "cpu" and lanes() > 0


# A memo of what has been written.
@cache
def _code(files: tuple[Path, ...], function: str, name: str, **sizes: int) -> str:
    """Write files in a namespace, behind their constants, and bring the function out of it."""
    sizes = {"lanes": lanes(), **sizes}
    *headers, own = (file.read_text() for file in files)
    lines = [
        *(f"#include <{file}>" for file in _INCLUDED),
        f"namespace in_{name} {{",
        *(f"constexpr int64_t {size.upper()} = {int(n)};" for size, n in sizes.items()),
        *headers,
        (own + function).replace(" kernel(", f" {name}("),
        f"}}\nusing in_{name}::{name};",
    ]
    return "\n".join(lines)
