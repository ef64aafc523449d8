"""From a program to a Python function that calls its operations in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain
from math import inf, nan
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.recording.program import Operation, Overload, Program, name_of, simplify

# From the inputs to the outputs; None where a number that the program has read is another one now,
# or an operation raises an error before any has written into an input: Python then meets it.
Run: TypeAlias = Callable[[Sequence[Tensor]], tuple[Tensor, ...] | None]
FunctionOf: TypeAlias = Callable[[Overload], Callable[..., Any]]  # Any: what torch takes

_KINDS: Final = (BuiltinFunctionType, MethodDescriptorType)  # and not torch's Python
# What the text of arguments names.
_NAMES: Final = {"torch": torch, "device": torch.device, "inf": inf, "nan": nan}


def by_overload(overload: Overload) -> Callable[..., Any]:
    """Return the operation itself."""
    operation: Callable[..., Any] = overload._op
    return operation


def by_function(overload: Overload) -> Callable[..., Any]:
    """Return torch's own function for an operation, whose call takes less time, if it has one."""
    space, name = overload._schema.name.split("::")
    if name == "_local_scalar_dense":
        return Tensor.item
    first = overload._schema.arguments[:1]
    takes_tensor = bool(first) and first[0].name == "self" and str(first[0].type) == "Tensor"
    if space == "aten" and takes_tensor:
        for function in (getattr(torch, name, None), getattr(Tensor, name, None)):
            if isinstance(function, _KINDS):
                return function
    return by_overload(overload)


def generate(program: Program, function_of: FunctionOf = by_function) -> Run:
    """Make the function of a program, which frees each tensor after its last use."""
    program = simplify(program)
    overloads = {op.overload for op in (*program.once, *program.operations)}
    known: dict[str, Any] = {  # Any: whatever the function calls
        **_NAMES,
        **{name_of(overload): function_of(overload) for overload in overloads},
        **{f"constant_{n}": constant for n, constant in program.constants.items()},
    }
    exec(_text(program), known)
    run: Run = known["make"]()
    return run


def _text(program: Program) -> str:
    """Write a function that makes the program's: what runs once stands in the outer one."""
    written = [{program.memory[n] for n in op.written} for op in program.operations]
    changed = set[int]().union(*written)
    inputs = range(program.inputs)
    first, each = [], [f"{_listed(inputs)} = inputs"]
    for n in program.constants:
        if n in changed:
            each.append(f"t{n} = constant_{n}.clone()")
        else:
            first.append(f"t{n} = constant_{n}")
    first += [line for op in program.once for line in _lines(op)]
    # Once an operation may have written into an input, no call is left to Python.
    lines = _lines_by_operation(program)
    writes = (i for i, numbers in enumerate(written) if not numbers.isdisjoint(inputs))
    begin = next(writes, len(lines))
    blocks = (
        ("", ["def make():"]),
        ("    ", [*first, "def run(inputs):", "    try:"]),
        (" " * 12, [*each, *chain(*lines[:begin])]),
        (" " * 8, ["except Exception:", "    return None", *chain(*lines[begin:])]),
        (" " * 8, [f"return {_listed(program.outputs)}"]),
        ("    ", ["return run"]),
    )
    return "".join(f"{indent}{line}\n" for indent, block in blocks for line in block)


def _lines_by_operation(program: Program) -> list[list[str]]:
    """Write the lines of each operation, with those that free what it is the last to use."""
    lines = []
    stays = {*program.outputs, *program.constants}.union(*(op.results for op in program.once))
    for op in reversed(program.operations):
        unused = [n for n in {*op.results, *op.tensors} - stays if n is not None]
        stays.update(unused)
        end = [f"del {', '.join(f't{n}' for n in unused)}"] if unused else []
        lines.append([*_lines(op), *end])
    return lines[::-1]


def _lines(op: Operation) -> list[str]:
    """Write the lines of one operation."""
    call = op.call.format(*(f"t{n}" for n in op.tensors))
    ends = (line for end in op.ends for line in (f"if {end}:", "    return None"))
    return [f"{op.target} = {call}" if op.target else call, *ends]


def _listed(numbers: Iterable[int]) -> str:
    return f"({''.join(f't{n}, ' for n in numbers)})"
