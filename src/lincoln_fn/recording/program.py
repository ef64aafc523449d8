"""Recorded programs: torch's operations in order, on numbered tensors.

The tensors of a program are numbered in the order in which they appear: its inputs first. A tensor
that is no input and that no operation returns is a constant. A call is its text, as Python will run
it: programs of the same text and the same constants are the same. `generate` makes the Python
function that calls a program's operations in order.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import chain, zip_longest
from math import inf, nan
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

# An operation's own overload, as torch's dispatcher knows it.
Overload: TypeAlias = Any  # Any: torch._ops.OpOverload, whose schema has no types

# A result of at most so many bytes may stay in memory from one use to a later one.
_SMALL: Final = 2**12


def name_of(overload: Overload) -> str:
    """Name an operation as a program's text does, such as "aten_mm_default"."""
    return str(overload).replace(".", "_")


@attrs.frozen
class Operation:
    """One call of torch.

    `call` is its text, with {} for each of `tensors`, by their numbers. `results` are the tensors
    that it returns, None where it returns none, and `target` is the text of these. It writes into
    the tensors `written`. Behind it, the program does not hold where one of the conditions `ends`
    is true: a number that it reads is another one, or a shape that depends on numbers.
    """

    call: str
    tensors: tuple[int, ...]
    target: str
    results: tuple[int | None, ...]
    written: frozenset[int]
    ends: tuple[str, ...]
    overload: Overload = attrs.field(eq=False)
    nbytes: int = attrs.field(eq=False)

    @property
    def acts(self) -> bool:
        """Whether it does more than return tensors; one that returns none may raise an error."""
        return not self.results or bool(self.ends or self.written)


@attrs.frozen(eq=False)
class Program:
    """Operations in order, from some inputs to some outputs.

    `fresh` are the constants that each run makes anew from the same numbers, as torch.tensor(2.0)
    does. `memory` gives for each tensor the number of the first tensor in its memory.
    """

    inputs: int
    operations: tuple[Operation, ...]
    constants: dict[int, Tensor]
    fresh: frozenset[int]
    memory: tuple[int, ...]
    outputs: tuple[int, ...]

    def first_difference(self, other: Program) -> int | None:
        """Return the place of the first operation that differs; None if all is the same."""
        last = max(len(self.operations), len(other.operations)) - 1
        for i, (a, b) in enumerate(zip_longest(self.operations, other.operations)):
            if a != b:
                return i
        rest = [(p.outputs, p.fresh, p.memory, p.constants.keys()) for p in (self, other)]
        if rest[0] != rest[1]:
            return last
        for number, constant in self.constants.items():
            same = same_bits if number in self.fresh else Tensor.is_set_to
            if not same(constant, other.constants[number]):
                uses = (i for i, op in enumerate(self.operations) if number in op.tensors)
                return next(uses, last)
        return None


def same_bits(a: Tensor, b: Tensor) -> bool:
    """Return whether two tensors have the same layout and the same bits."""
    if (a.shape, a.dtype, a.device, a.stride()) != (b.shape, b.dtype, b.device, b.stride()):
        return False
    if a.is_set_to(b):
        return True
    in_bytes = (t.contiguous().reshape(-1).view(torch.uint8) for t in (a, b))
    return torch.equal(*in_bytes)


def simplify(program: Program) -> Program:
    """Leave out what is computed again, and what leads nowhere."""
    used, needed = {*program.outputs}, []
    for op in reversed(_without_repetitions(program)):
        if op.acts or used.intersection(op.results):
            needed.append(op)
            used.update(op.tensors)
    return attrs.evolve(program, operations=tuple(reversed(needed)))


def _without_repetitions(program: Program) -> list[Operation]:
    """Compute once what several operations compute of the same tensors.

    It holds for tensors whose memory nobody writes into, and for small results that are not
    returned: what is computed again to save memory stays so.
    """
    memory, operations = program.memory, []
    apart = {memory[number] for op in program.operations for number in op.written}
    returned = {memory[number] for number in program.outputs}
    names: dict[int, int] = {}
    first: dict[tuple[str, tuple[int, ...]], tuple[int | None, ...]] = {}
    for op in program.operations:
        op = attrs.evolve(op, tensors=tuple(names.get(n, n) for n in op.tensors))
        results = {memory[number] for number in op.results if number is not None}
        is_apart = results & returned or apart & {*results, *(memory[n] for n in op.tensors)}
        is_own = op.acts or is_apart or op.nbytes > _SMALL
        same = op.results if is_own else first.setdefault((op.call, op.tensors), op.results)
        if same is op.results:
            operations.append(op)
        both = zip(op.results, same, strict=True)
        names |= {n: m for n, m in both if n is not None and m is not None and n != m}
    return operations


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
    known: dict[str, Any] = {  # Any: whatever the function calls
        **_NAMES,
        **{name_of(op.overload): function_of(op.overload) for op in program.operations},
        **{f"constant_{n}": constant for n, constant in program.constants.items()},
    }
    exec(_text(program), known)
    run: Run = known["run"]
    return run


def _text(program: Program) -> str:
    written = [{program.memory[n] for n in op.written} for op in program.operations]
    changed = set[int]().union(*written)
    inputs = range(program.inputs)
    each = [f"{_listed(inputs)} = inputs"]
    each += [f"t{n} = constant_{n}{'.clone()' if n in changed else ''}" for n in program.constants]
    # Once an operation may have written into an input, no call is left to Python.
    lines = _lines_by_operation(program)
    writes = (i for i, numbers in enumerate(written) if not numbers.isdisjoint(inputs))
    begin = next(writes, len(lines))
    blocks = (
        ("", ["def run(inputs):", "    try:"]),
        (" " * 8, [*each, *chain(*lines[:begin])]),
        (" " * 4, ["except Exception:", "    return None", *chain(*lines[begin:])]),
        (" " * 4, [f"return {_listed(program.outputs)}"]),
    )
    return "".join(f"{indent}{line}\n" for indent, block in blocks for line in block)


def _lines_by_operation(program: Program) -> list[list[str]]:
    """Write the lines of each operation, with those that free what it is the last to use."""
    lines = []
    stays = {*program.outputs}
    for op in reversed(program.operations):
        unused = [n for n in {*op.results, *op.tensors} - stays if n is not None]
        stays.update(unused)
        call = op.call.format(*(f"t{n}" for n in op.tensors))
        ends = [line for end in op.ends for line in (f"if {end}:", "    return None")]
        free = [f"del {', '.join(f't{n}' for n in unused)}"] if unused else []
        lines.append([f"{op.target} = {call}" if op.target else call, *ends, *free])
    return lines[::-1]


def _listed(numbers: Iterable[int]) -> str:
    return f"({''.join(f't{n}, ' for n in numbers)})"
