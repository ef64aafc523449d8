"""A table of exact numbers: arrays of row numbers stand for arrays of these."""

from __future__ import annotations

from typing import Final

import numpy as np

from lincoln_fn.testing.exact.field import Array, Field
from lincoln_fn.testing.exact.numbers import Numbers, constant

READ: Final = "a number was read, and is a constant from there on"


class MissingError(Exception):
    """An operation that exact numbers have no rule for."""


class NoAttributeError(MissingError, AttributeError):
    """A method of numpy's arrays that exact ones have not."""


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
