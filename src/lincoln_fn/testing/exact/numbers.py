"""Exact numbers: a float to compare by, a value and its derivative in a field; their table.

A float that is not finite marks a number that has no value.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np

from lincoln_fn.testing.exact.field import Array, Field, P, Q

# Any: a number of Python or numpy, too.
Number: TypeAlias = Any
Axes: TypeAlias = int | Sequence[int] | None
# An integer of at most this size keeps e^(n z) = (e^z)^n.
LARGEST = 64


class Numbers:
    """Arrays of exact numbers, of one shape.

    They are compared by `shadow`, floats. `value` has the numbers of the field, and `tangent` their
    derivatives along a direction. `turn` and `factor` are e^z, as `Field` has it: drawn, and 1.
    """

    __slots__ = ("factor", "field", "shadow", "tangent", "turn", "value")
    __array_ufunc__ = None  # an array of numpy times exact numbers is exact

    def __init__(
        self, field: Field, shadow: Array, value: Array, tangent: Array,
        turn: Array = None, factor: Array = None,
    ) -> None:  # fmt: skip
        self.field, self.shadow, self.value, self.tangent = field, shadow, value, tangent
        self.turn = field.turn(value) if turn is None else turn
        self.factor = np.ones(np.shape(value), field.dtype) if factor is None else factor

    @property
    def columns(self) -> tuple[Array, ...]:
        """The arrays."""
        return self.shadow, self.value, self.tangent, self.turn, self.factor

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of each array."""
        return np.shape(self.shadow)

    def map(self, function: Callable[[Array], Array]) -> Numbers:
        """Move the numbers, as views and permutations do."""
        return Numbers(self.field, *map(function, self.columns))

    def like(self, c: Number) -> Numbers:
        """Make exact numbers of what is given beside these."""
        return c if isinstance(c, Numbers) else constant(self.field, c)

    def __add__(self, other: Number) -> Numbers:
        a, b, field = self, self.like(other), self.field
        return Numbers(
            field, a.shadow + b.shadow, field.reduce(a.value + b.value),
            field.reduce(a.tangent + b.tangent), (a.turn + b.turn) % Q,
            field.reduce(a.factor * b.factor),
        )  # fmt: skip

    def __neg__(self) -> Numbers:
        a, field = self, self.field
        turned = -a.turn % Q, _to_the(field, a.factor, -1)
        return Numbers(field, -a.shadow, field.reduce(-a.value), field.reduce(-a.tangent), *turned)

    def __sub__(self, other: Number) -> Numbers:
        return self + -self.like(other)

    def __rsub__(self, other: Number) -> Numbers:
        return self.like(other) + -self

    def __mul__(self, other: Number) -> Numbers:
        a, b, field = self, self.like(other), self.field
        value = field.reduce(a.value * b.value)
        tangent = field.reduce(a.value * b.tangent + a.tangent * b.value)
        return Numbers(field, a.shadow * b.shadow, value, tangent, *_multiple(a, b, value))

    def inverse(self) -> Numbers:
        """Compute 1 / z."""
        field, value = self.field, self.field.inverse(self.value)
        slope = field.reduce(-field.reduce(value * value))
        return Numbers(field, 1 / self.shadow, value, field.reduce(slope * self.tangent))

    def __truediv__(self, other: Number) -> Numbers:
        other = self.like(other)
        ratio: Numbers = self * other.inverse()
        ratio.shadow = self.shadow / other.shadow
        return ratio

    def __rtruediv__(self, other: Number) -> Numbers:
        return self.like(other) / self

    __radd__, __rmul__ = __add__, __mul__

    def sum(self, axis: Axes = None, keepdims: bool = False) -> Numbers:
        """Add along axes, or along all."""
        axes, reduce = axes_of(axis, len(self.shape)), self.field.reduce
        how: dict[str, Any] = {"axis": axes, "keepdims": keepdims}  # Any: numpy's options
        shadow, value, tangent, turn = (np.sum(each, **how) for each in self.columns[:4])
        factor = np.ones(np.shape(value), self.field.dtype)
        if (self.factor != 1).any():
            for row in np.moveaxis(flattened(self.factor, axes), -1, 0):
                factor = reduce(factor * row.reshape(factor.shape))
        return Numbers(self.field, shadow, reduce(value), reduce(tangent), turn % Q, factor)

    def where(self, condition: Array, other: Number) -> Numbers:
        """Choose these numbers where a condition holds, and others elsewhere."""
        pairs = zip(self.columns, self.like(other).columns, strict=True)
        return Numbers(self.field, *(np.where(condition, a, b) for a, b in pairs))


def axes_of(axis: Axes, n: int) -> tuple[int, ...]:
    """List the axes that an operation is along: all, where none is given."""
    if axis is None or (not isinstance(axis, int) and not len(axis)):
        return tuple(range(n))
    return tuple(each % max(n, 1) for each in ((axis,) if isinstance(axis, int) else axis) if n)


def flattened(array: Array, axes: Sequence[int]) -> Array:
    """Move axes to the end, and make them one."""
    rest = [axis for axis in range(array.ndim) if axis not in axes]
    rows = array.transpose(*rest, *axes)
    return rows.reshape(*rows.shape[: len(rest)], -1)


def constant(field: Field, c: Number) -> Numbers:
    """Make exact numbers of plain ones."""
    shadow = np.asarray(c, dtype=float)
    if shadow.ndim == 0:
        value = np.asarray(field.number(float(shadow)), field.dtype)
    else:
        distinct, where = np.unique(shadow, return_inverse=True)
        known = np.array([field.number(each) for each in distinct.tolist()], field.dtype)
        value = known[where].reshape(shadow.shape)
    return Numbers(field, shadow, value, np.zeros(shadow.shape, field.dtype))


def _to_the(field: Field, factor: Array, n: Array) -> Array:
    return factor if (factor == 1).all() else field.power(factor, n)


def _multiple(a: Numbers, b: Numbers, value: Array) -> tuple[Array, Array]:
    """Find the partner of a product: a power, where one of two is a small integer."""
    field, shape = a.field, np.shape(value)
    turn, factor = field.turn(value), np.ones(shape, field.dtype)
    for n, z in ((a, b), (b, a)):
        count = np.where(n.value > Q, n.value - P, n.value)
        is_whole = (abs(count) <= LARGEST) & (n.tangent == 0) & (n.shadow == count)
        if is_whole.any():
            count = np.where(is_whole, count, 0).astype(np.int64)
            turn = np.where(is_whole, z.turn * count % Q, turn)
            factor = np.where(is_whole, _to_the(field, z.factor, count), factor)
    return turn, factor


class Table:
    """The rows of exact numbers, of which 0 and 1 are the numbers 0 and 1."""

    def __init__(self, field: Field) -> None:
        self.field, self._rows = field, 0
        kinds = (np.float64, field.dtype, field.dtype, np.int64, field.dtype)
        self._columns = [np.zeros(1 << 12, kind) for kind in kinds]
        self.write(constant(field, np.array([0.0, 1.0])))

    def write(self, numbers: Numbers) -> Array:
        """Add rows, and return their numbers as floats."""
        shape, first = numbers.shape, self._rows
        self._rows = last = first + int(np.prod(shape))
        while last > len(self._columns[0]):
            self._columns = [np.concatenate((each, np.zeros_like(each))) for each in self._columns]
        for column, values in zip(self._columns, numbers.columns, strict=True):
            column[first:last] = np.ravel(values)
        return np.arange(first, last, dtype=float).reshape(shape)

    def read(self, rows: Array) -> Numbers:
        """Return the numbers of some rows."""
        at = rows.astype(np.int64)
        return Numbers(self.field, *(column[at] for column in self._columns))
