"""Tensors of exact numbers."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils._mode_utils import no_dispatch
from torch.utils._python_dispatch import _get_current_dispatch_mode

from lincoln_fn.testing.exact.arrays import ExactArray
from lincoln_fn.testing.exact.field import Array
from lincoln_fn.testing.exact.numbers import Numbers, constant
from lincoln_fn.testing.exact.table import MissingError, Table

# Any: of every operation of torch.
Operation = Any


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
        raise MissingError(f"{func} of exact numbers, outside of their space")


def exact(rows: Tensor) -> Exact:
    """Make a tensor of rows one of exact numbers."""
    made: Exact = torch.Tensor._make_subclass(Exact, rows)
    return made


def to_array(tensor: Exact) -> ExactArray:
    """Make the array of a tensor's numbers, in the same storage."""
    space = _get_current_dispatch_mode()
    if not isinstance(space, Table):
        raise MissingError("exact numbers as an array, outside of their space")
    with no_dispatch():
        return ExactArray(space, plain(tensor).numpy())


def of_array(array: ExactArray) -> Exact:
    """Make the tensor of an array's numbers."""
    with no_dispatch():
        return exact(torch.from_numpy(array.rows.copy()))


def plain(tensor: Tensor) -> Tensor:
    """Return the tensor of rows of exact numbers, in the same storage."""
    made: Tensor = torch.ops.aten.detach.default(tensor)
    return made


class Store(Table):
    """A table, and tensors of its rows."""

    def numbers(self, tensor: Tensor) -> Numbers:
        """Read the numbers of a tensor."""
        with no_dispatch():
            array = plain(tensor).double().numpy(force=True)  # of torch's zeros without memory, too
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
