"""Recorded programs: torch's operations in order, on numbered tensors.

The tensors of a program are numbered in the order in which they appear: its inputs first. A tensor
that is no input and that no operation returns is a constant.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any, Final, TypeAlias

import attrs
import torch
from torch import Tensor

# An operation's own overload, as torch's dispatcher knows it.
Overload: TypeAlias = Any  # Any: torch._ops.OpOverload, whose schema has no types
# What an operation is given: tensors of the program as `At`, and what else torch takes.
Argument: TypeAlias = Any

# What depends on no input is computed once, if it has at most so many bytes.
_ONCE: Final = 2**22
# A result of at most so many bytes may stay in memory from one use to a later one.
_SMALL: Final = 2**12


class At(int):
    """A tensor of the program, by its number."""

    __slots__ = ()

    __str__ = int.__repr__

    def __repr__(self) -> str:
        return f"At({self})"


@attrs.frozen
class Traits:
    """What the schema of an operation says.

    `writes` are the arguments that it writes into, by place and name. `shares` says that a result
    may lie in an argument's memory, `has_free_shapes` that shapes of results depend on numbers, and
    `may_draw` that it may draw from torch's generator.
    """

    name: str
    writes: tuple[tuple[int, str], ...]
    is_mutable: bool
    shares: bool
    has_free_shapes: bool
    may_draw: bool


@cache
def traits_of(overload: Overload) -> Traits:
    """Read the schema of an operation."""
    schema = overload._schema
    written = (
        (i, formal.name)
        for i, formal in enumerate(schema.arguments)
        if formal.alias_info is not None and formal.alias_info.is_write
    )
    is_view = any(result.alias_info is not None for result in schema.returns)
    return Traits(
        schema.name,
        tuple(written),
        schema.is_mutable,
        is_view or schema.name == "aten::_unsafe_view",  # whose argument is not used again
        torch.Tag.dynamic_output_shape in overload.tags,
        torch.Tag.nondeterministic_seeded in overload.tags,
    )


@attrs.frozen
class Read:
    """A number that is read from a tensor: what it is, or whether it lies between two others."""

    number: object
    bounds: tuple[float, float] | None = None


@attrs.frozen
class Operation:
    """One call of torch.

    `results` are the numbers of the tensors that it returns, None where it returns none. `read` is
    the number that it reads, and `shapes` are those of results whose shapes depend on numbers:
    where a later call differs in them, the program does not hold.
    """

    overload: Overload
    arguments: tuple[Argument, ...]
    keywords: tuple[tuple[str, Argument], ...]
    results: tuple[int | None, ...]
    read: Read | None = None
    shapes: tuple[torch.Size, ...] = ()
    nbytes: int = 0

    @property
    def name(self) -> str:
        """Its name, such as "aten::mm"."""
        return traits_of(self.overload).name

    @property
    def acts(self) -> bool:
        """Whether it does more than return tensors; one that returns none may raise an error."""
        return not self.results or bool(self.shapes) or traits_of(self.overload).is_mutable

    def used(self) -> set[int]:
        """Return the numbers of the tensors that it is given."""
        return {*_numbers((self.arguments, [value for _, value in self.keywords]))}

    def written(self) -> set[int]:
        """Return the numbers of the tensors that it writes into."""
        writes, by_name = traits_of(self.overload).writes, dict(self.keywords)
        given = [self.arguments[i : i + 1] or by_name.get(name) for i, name in writes]
        return {*_numbers(given)}

    def key(self) -> tuple[object, ...]:
        """Give all that makes it what it is: nan is nan, and neither -0.0 is 0.0 nor 1 is True."""
        given = repr((self.arguments, self.keywords, self.read))
        return self.overload, given, self.results, self.shapes


def _numbers(value: Argument) -> Iterator[int]:
    if isinstance(value, At):
        yield value
    elif isinstance(value, tuple | list):
        for entry in value:
            yield from _numbers(entry)


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
        length = max(len(self.operations), len(other.operations))
        for i, (a, b) in enumerate(zip(self.operations, other.operations, strict=False)):
            if a.key() != b.key():
                return i
        rest = [(p.outputs, p.fresh, p.memory, p.constants.keys()) for p in (self, other)]
        if len(self.operations) != len(other.operations) or rest[0] != rest[1]:
            return min(len(self.operations), len(other.operations), length - 1)
        for number, constant in self.constants.items():
            same = same_bits if number in self.fresh else Tensor.is_set_to
            if not same(constant, other.constants[number]):
                uses = (i for i, op in enumerate(self.operations) if number in op.used())
                return next(uses, length - 1)
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
            used |= op.used()
    # What runs once may have no result that is changed, or returned.
    memory, written = program.memory, [op.written() for op in needed]
    apart = {memory[number] for number in (*program.outputs, *set().union(*written))}
    still = {number for number in program.fresh if memory[number] not in apart}
    once, each = [], []
    for op in reversed(needed):
        results = {number for number in op.results if number is not None}
        is_apart = any(memory[number] in apart for number in results)
        if op.acts or is_apart or op.nbytes > _ONCE or not op.used() <= still:
            each.append(op)
        else:
            still |= results
            once.append(op)
    return attrs.evolve(program, operations=tuple(each), once=tuple(once))


def _put(value: Argument, names: Mapping[int, int]) -> Argument:
    """Put other numbers of tensors into an argument."""
    if isinstance(value, At):
        return At(names.get(value, value))
    if isinstance(value, tuple | list):
        return type(value)([_put(entry, names) for entry in value])
    return value


def _without_repetitions(program: Program) -> list[Operation]:
    """Compute once what several operations compute of the same tensors.

    It holds for tensors whose memory nobody writes into, and for results that are not returned, as
    long as the first result is still in use: what is computed again to save memory stays so.
    """
    memory, operations = program.memory, []
    apart = {memory[number] for op in program.operations for number in op.written()}
    returned = {memory[number] for number in program.outputs}
    # By the number of a memory, the place of the last operation that uses it.
    last = {memory[n]: i for i, op in enumerate(program.operations) for n in op.used()}
    lasting = (*program.outputs, *program.constants, *range(program.inputs))
    last |= dict.fromkeys((memory[n] for n in lasting), len(program.operations))
    names: dict[int, int] = {}
    first: dict[tuple[object, ...], tuple[int | None, ...]] = {}
    for i, op in enumerate(program.operations):
        op = op if names.keys().isdisjoint(op.used()) else attrs.evolve(
            op, arguments=_put(op.arguments, names), keywords=_put(op.keywords, names)
        )  # fmt: skip
        operations.append(op)
        results = [number for number in op.results if number is not None]
        lie = {memory[number] for number in (*results, *op.used())}
        if op.acts or traits_of(op.overload).may_draw or lie & apart:
            continue
        key = op.overload, repr((op.arguments, op.keywords))
        same = first.setdefault(key, op.results)
        if same is op.results or returned & {memory[number] for number in results}:
            continue
        both = zip(op.results, same, strict=True)
        pairs = [(n, m) for n, m in both if n is not None and m is not None]
        if op.nbytes > _SMALL and any(last.get(memory[m], -1) < i for _, m in pairs):
            first[key] = op.results
            continue
        operations.pop()
        names |= dict(pairs)
        for n, m in pairs:
            last[memory[m]] = max(last.get(memory[m], i), last.get(memory[n], i))
    return operations
