"""From a program to a Python function that calls its operations in order."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.recording.program import Argument, At, Operation, Overload, Program, simplify

# From the inputs to the outputs; None where a number that the program has read is another one now,
# or an operation raises an error before any has written into an input: Python then meets it.
Run: TypeAlias = Callable[[Sequence[Tensor]], tuple[Tensor, ...] | None]
FunctionOf: TypeAlias = Callable[[Overload], Callable[..., Any]]  # Any: what torch takes

_KINDS: Final = (BuiltinFunctionType, MethodDescriptorType)  # and not torch's Python


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
    code = _Code(simplify(program), function_of)
    text = code.text()
    exec(text, code.known)
    run: Run = code.known["make"]()
    return run


class _Code:
    """The text of a program's function, while it is written."""

    def __init__(self, program: Program, function_of: FunctionOf) -> None:
        self.program, self.function_of = program, function_of
        self.known: dict[str, Any] = {}  # Any: whatever the function calls
        self._names: dict[int, str] = {}

    def text(self) -> str:
        """Write a function that makes the program's: what runs once stands in the outer one."""
        program = self.program
        written = [{program.memory[n] for n in op.written()} for op in program.operations]
        changed = set[int]().union(*written)
        first, each = [], [f"({''.join(f't{i}, ' for i in range(program.inputs))}) = inputs"]
        for number, constant in program.constants.items():
            name = self._know(constant, "constant")
            if number in changed:
                each.append(f"t{number} = {name}.clone()")
            else:
                first.append(f"t{number} = {name}")
        first += [line for op in program.once for line in self._call(op)]
        # Once an operation may have written into an input, no call is left to Python.
        inputs = {*range(program.inputs)}
        writes = (i for i, numbers in enumerate(written) if numbers & inputs)
        lines = self._operations()
        begin = next(writes, len(lines))
        blocks = (
            ("", ["def make():"]),
            ("    ", [*first, "def run(inputs):", "    try:"]),
            (" " * 12, [*each, *chain(*lines[:begin])]),
            (" " * 8, ["except Exception:", "    return None", *chain(*lines[begin:])]),
            (" " * 8, [f"return ({''.join(f't{number}, ' for number in program.outputs)})"]),
            ("    ", ["return run"]),
        )
        return "".join(f"{indent}{line}\n" for indent, block in blocks for line in block)

    def _operations(self) -> list[list[str]]:
        """Write the lines of each operation, with those that free what it is the last to use."""
        program, lines = self.program, []
        stays = {*program.outputs, *program.constants}.union(*(op.results for op in program.once))
        for op in reversed(program.operations):
            unused = [n for n in {*op.results, *op.used()} - stays if n is not None]
            stays.update(unused)
            end = [f"del {', '.join(f't{n}' for n in unused)}"] if unused else []
            lines.append([*self._call(op), *end])
        return lines[::-1]

    def _call(self, op: Operation) -> list[str]:
        """Write the lines of one operation."""
        arguments = [self._code(value) for value in op.arguments]
        arguments += [f"{name}={self._code(value)}" for name, value in op.keywords]
        call = f"{self._know(self.function_of(op.overload), op.name)}({', '.join(arguments)})"
        if op.read is not None:
            if op.read.bounds is None:
                return [f"if {call} != {self._code(op.read.number)}:", "    return None"]
            lowest, highest = map(self._code, op.read.bounds)
            wrong = "not " if op.read.number else ""
            return [f"if {wrong}{lowest} <= {call} <= {highest}:", "    return None"]
        returns = [str(one.type) for one in op.overload._schema.returns]
        targets = ", ".join("_" if number is None else f"t{number}" for number in op.results)
        if returns != ["Tensor"] and op.results:
            targets += ","
        lines = [f"{targets} = {call}" if op.results else call]
        for number, shape in zip(op.results, op.shapes, strict=False):
            lines += [f"if t{number}.shape != {self._know(shape, 'shape')}:", "    return None"]
        return lines

    def _code(self, value: Argument) -> str:
        """Write an argument."""
        if isinstance(value, At):
            return f"t{value}"
        if isinstance(value, tuple | list):
            entries = "".join(f"{self._code(entry)}, " for entry in value)
            return f"({entries})" if isinstance(value, tuple) else f"[{entries}]"
        if value is None or type(value) in (bool, int, str):
            return repr(value)
        if type(value) is float and abs(value) < float("inf"):
            return repr(value)
        return self._know(value, "value")

    def _know(self, value: object, kind: str) -> str:
        """Give a value a name that the function knows."""
        if id(value) not in self._names:
            name = f"{kind.replace('::', '_')}_{len(self.known)}"
            self._names[id(value)] = name
            self.known[name] = value
        return self._names[id(value)]
