"""Recorded programs: torch's operations in order, on numbered tensors.

The tensors of a program are numbered in the order in which they appear: its inputs first. A tensor
that is no input and that no operation returns is a constant. A call is its text, as Python will run
it: programs of the same text and the same constants are the same.
"""

from __future__ import annotations

from itertools import zip_longest
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

# An operation's own overload, as torch's dispatcher knows it.
Overload: TypeAlias = Any  # Any: torch._ops.OpOverload, whose schema has no types

# What depends on no input is computed once, if it has at most so many bytes.
_ONCE: Final = 2**22
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
    does. `memory` gives for each tensor the number of the first tensor in its memory. `once` are
    operations that run before all others, in the first run alone.
    """

    inputs: int
    operations: tuple[Operation, ...]
    constants: dict[int, Tensor]
    fresh: frozenset[int]
    memory: tuple[int, ...]
    outputs: tuple[int, ...]
    once: tuple[Operation, ...] = ()

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
    """Leave out what is computed again or leads nowhere, and set apart what depends on no input."""
    lasting = _without_repetitions(program)
    used, needed = {*program.outputs}, []
    for op in reversed(lasting):
        if op.acts or used.intersection(op.results):
            needed.append(op)
            used.update(op.tensors)
    # What runs once may have no result that is changed, or returned.
    memory, written = program.memory, [op.written for op in needed]
    apart = {memory[number] for number in (*program.outputs, *set().union(*written))}
    still = {number for number in program.fresh if memory[number] not in apart}
    once, each = [], []
    for op in reversed(needed):
        results = {number for number in op.results if number is not None}
        is_apart = any(memory[number] in apart for number in results)
        if op.acts or is_apart or op.nbytes > _ONCE or not still.issuperset(op.tensors):
            each.append(op)
        else:
            still |= results
            once.append(op)
    return attrs.evolve(program, operations=tuple(each), once=tuple(once))


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
