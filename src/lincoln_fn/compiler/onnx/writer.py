"""A writer of ONNX graphs: nodes, constants and sizes, each named once.

A program is traced for batches of fixed sizes. What differs between two such graphs depends on the
batch: a size is `scale * n + offset` for n examples, and a factor of a mean is one over that. Both
are found from two batch sizes, and a third one has to agree.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Final, TypeAlias

import attrs
import torch

from lincoln_fn.fastpath import Argument, Operation

if TYPE_CHECKING:  # an extra, which is imported where it is used
    from onnx import NodeProto, TensorProto

# ONNX's codes of the dtypes, as its specification numbers them.
DTYPES: Final = {
    torch.float32: 1, torch.uint8: 2, torch.int8: 3, torch.int16: 5, torch.int32: 6, torch.int64: 7,
    torch.bool: 9, torch.float16: 10, torch.float64: 11,
}  # fmt: skip


@attrs.frozen
class OfBatch:
    """The number (scale * n + offset)^power + constant, of n examples.

    Sizes have the power 1. Factors have -1, and the constant 0 for a mean, or 1 for Bessel's
    correction m / (m - 1) = 1 / (m - 1) + 1.
    """

    scale: float
    offset: float
    power: int = 1
    constant: int = 0

    @property
    def is_whole(self) -> bool:
        """Whether it is an integer."""
        return self.power == 1 and isinstance(self.scale, int) and isinstance(self.offset, int)

    def at(self, n: int) -> float:
        """Compute it for n examples."""
        value: float = (self.scale * n + self.offset) ** self.power
        return value + self.constant


Size: TypeAlias = int | OfBatch
Number: TypeAlias = bool | int | float | OfBatch

# (writer, what is made, the operation's arguments as torch has them) -> the name of what was made,
# or the names.
Row: TypeAlias = Callable[..., Argument]
# By torch's operation.
Rows: TypeAlias = dict[Operation, Row]


class UnknownOperationError(Exception):
    """An operation that has no counterpart here, or not with these arguments."""


@attrs.frozen
class Value:
    """A tensor of the graph: its name, shape and dtype."""

    name: str
    shape: tuple[Size, ...]
    dtype: torch.dtype

    @property
    def code(self) -> int:
        """ONNX's code of the dtype."""
        return code(self.dtype)

    def axis(self, dim: object) -> int:
        """Give an axis as a number from 0."""
        if not isinstance(dim, int):
            raise UnknownOperationError(f"an axis of {dim}")
        return dim % max(len(self.shape), 1)


@attrs.define(eq=False)
class Writer:
    """Collects the nodes and constants of one graph, each once; it is local to one export."""

    batch: str  # the input whose first axis is that of examples
    nodes: dict[object, NodeProto] = attrs.field(factory=dict)
    constants: dict[object, TensorProto] = attrs.field(factory=dict)

    def add(self, operation: str, *inputs: str, **attributes: Argument) -> str:
        """Add a node of one output, and return the output's name."""
        return self.add_many(operation, inputs, 1, **attributes)[0]

    def add_many(
        self,
        operation: str,
        inputs: Sequence[str],
        outputs: int,
        **attributes: Argument,
    ) -> list[str]:
        """Add a node, or find an equal one, and return its outputs' names."""
        from onnx import helper

        key = operation, tuple(inputs), outputs, repr(sorted(attributes.items()))
        if key not in self.nodes:
            n = len(self.nodes)
            names = [f"{operation}_{n}_{i}" if i else f"{operation}_{n}" for i in range(outputs)]
            self.nodes[key] = helper.make_node(operation, list(inputs), names, **attributes)
        return list(self.nodes[key].output)

    def constant(self, value: object, dtype: torch.dtype) -> str:
        """Add a constant, or return the name of an equal one."""
        from onnx import numpy_helper

        array = torch.as_tensor(value, dtype=dtype).contiguous().numpy()
        key = (dtype, array.shape, array.tobytes())
        if key not in self.constants:
            name = f"constant_{len(self.constants)}"
            self.constants[key] = numpy_helper.from_array(array, name)
        return self.constants[key].name

    def ints(self, values: Sequence[int]) -> str:
        """Add a vector of integers, such as axes."""
        return self.constant(list(values), torch.int64)

    def scalar(self, value: Number, dtype: torch.dtype) -> str:
        """Add a number, which may depend on the number of examples."""
        if isinstance(value, OfBatch):
            return self._of_batch(value, dtype)
        if isinstance(value, float) and not dtype.is_floating_point and dtype is not torch.bool:
            limits = torch.iinfo(dtype)
            value = int(value) if math.isfinite(value) else limits.max if value > 0 else limits.min
        return self.constant(value, dtype)

    def shape(self, sizes: Sequence[Size]) -> str:
        """Add a vector of sizes, some of which may depend on the number of examples."""
        if not any(isinstance(size, OfBatch) for size in sizes):
            return self.ints([size for size in sizes if isinstance(size, int)])
        numbers = (self.scalar(size, torch.int64) for size in sizes)
        parts = [self.add("Unsqueeze", number, self.ints([0])) for number in numbers]
        return self.add("Concat", *parts, axis=0)

    def cast(self, value: Value, dtype: torch.dtype) -> str:
        """Convert a tensor to a dtype, if it has another."""
        if value.dtype is dtype:
            return value.name
        return self.add("Cast", value.name, to=code(dtype))

    def _of_batch(self, value: OfBatch, dtype: torch.dtype) -> str:
        kind = torch.int64 if value.is_whole else torch.float64
        n = self.add("Squeeze", self.add("Shape", self.batch, start=0, end=1))
        number = self.cast(Value(n, (), torch.int64), kind)
        if value.scale != 1:
            number = self.add("Mul", number, self.constant(value.scale, kind))
        if value.offset != 0:
            number = self.add("Add", number, self.constant(value.offset, kind))
        if value.power < 0:
            number = self.add("Reciprocal", number)
        if value.constant != 0:
            number = self.add("Add", number, self.constant(value.constant, kind))
        return self.cast(Value(number, (), kind), dtype)


def code(dtype: torch.dtype) -> int:
    """Return ONNX's code of a dtype."""
    if dtype not in DTYPES:
        raise UnknownOperationError(f"numbers of {dtype} have no counterpart")
    return DTYPES[dtype]


def fit(values: Sequence[Argument], batches: Sequence[int], error: float = 1e-12) -> Argument:
    """Find what gives these values, of a relative error, at these numbers of examples."""
    first = values[0]
    if all(type(x) is type(first) and (x == first or (x != x and first != first)) for x in values):
        return first
    numbers = [x for x in values if isinstance(x, int | float) and math.isfinite(x)]
    for power, constant in ((1, 0), (-1, 0), (-1, 1)) if len(numbers) == len(values) else ():
        if power > 0 or constant not in numbers:
            fitted = _fit_two(numbers, batches, power, constant, error)
            pairs = zip(map(fitted.at, batches), numbers, strict=True)
            # Integers that are half of something else agree with it at odd numbers alone.
            may_be = fitted.is_whole or not all(isinstance(x, int) for x in values)
            if may_be and all(math.isclose(*pair, rel_tol=error) for pair in pairs):
                return fitted
    problem = f"a number depends on the batch size: {values} for batches of {tuple(batches)}"
    raise UnknownOperationError(problem)


def _fit_two(
    numbers: Sequence[float], batches: Sequence[int], power: int, constant: int, error: float
) -> OfBatch:
    bases: list[float] = [(number - constant) ** power for number in numbers[:2]]
    scale = (bases[1] - bases[0]) / (batches[1] - batches[0])
    scale, offset = (_round(x, 1e3 * error) for x in (scale, bases[0] - scale * batches[0]))
    return OfBatch(scale, offset, power, constant)


def _round(x: float, error: float) -> float:
    """Remove the rounding error of what is a whole number."""
    return round(x) if math.isclose(x, round(x), rel_tol=error, abs_tol=error) else x
