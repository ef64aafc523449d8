"""Tensors of exact numbers: their rows, and the numbers in these."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch

from lincoln_fn.testing.exact.field import Array, Field
from lincoln_fn.testing.exact.numbers import Numbers, constant

# Any: of every operation of torch.
Operation = Any


class MissingError(Exception):
    """An operation that exact numbers have no rule for."""


class Exact(Tensor):
    """A tensor of exact numbers; it has values only in its space."""

    @classmethod
    def __torch_function__(
        cls, func: Operation, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Return what operations return, and make no subclass of it."""
        return Tensor.__torch_function__(func, (), args, kwargs)  # type: ignore[no-untyped-call]  # torch

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]  # torch's is no method
        cls, func: Operation, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        """Refuse an operation outside of the space."""
        raise MissingError(f"{func} of exact numbers, outside of their space")


def exact(rows: Tensor) -> Exact:
    """Make a tensor of rows one of exact numbers."""
    made: Exact = torch.Tensor._make_subclass(Exact, rows)
    return made


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor of rows of exact numbers, in the same storage."""
    made: Tensor = torch.ops.aten.detach.default(tensor)
    return made


class Store:
    """The rows of exact numbers, of which 0 and 1 are the numbers 0 and 1, and tensors of them."""

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

    def numbers(self, tensor: Tensor) -> Numbers:
        """Read the numbers of a tensor."""
        with no_dispatch():
            array = plain(tensor).double().numpy()
        return self.read(array) if isinstance(tensor, Exact) else constant(self.field, array)

    def tensor(self, numbers: Numbers) -> Exact:
        """Make a tensor of numbers."""
        with no_dispatch():
            return exact(torch.from_numpy(self.write(numbers)))

    def enter(self, leaf: Tensor, value: Array) -> Exact:
        """Make a tensor of numbers with the shadows of a leaf."""
        shadow = leaf.detach().double().numpy()
        return self.tensor(Numbers(self.field, shadow, value, np.zeros_like(value)))

    def moved(self, leaf: Tensor, tangent: Array) -> Exact:
        """Make a tensor of the same numbers, with tangents."""
        numbers = self.numbers(leaf)
        numbers.tangent = tangent
        return self.tensor(numbers)

    def lifted(self, made: Tensor) -> Tensor:
        """Make a plain floating tensor exact."""
        if not made.is_floating_point() or made.device.type != "cpu":
            return made
        return made if isinstance(made, Exact) else self.tensor(self.numbers(made))
