"""Checks of the data that a user passes in: arrays, batches, sources of batches, and states.

The memory of a donated state belongs to the next state: its tensors are spent.
"""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from functools import cache, partial
from typing import Any, Final, TypeVar

import numpy as np
import optree
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import TRAINED, Arrays, describe, named_leaves, tree, unexpected, warn


def as_tensors(arrays: object) -> tuple[core.Arrays, ...]:
    """Make tensors of a tuple of arrays, or raise a `LayerError`."""
    if not isinstance(arrays, tuple | list):
        mend = "write (x,) for one array, (x, target) for two"
        raise unexpected("batches", "a tuple of arrays", describe(arrays), mend)
    if not tree.leaves(arrays):
        raise unexpected("batches", "at least one array", core.format_briefly(arrays))

    float64: list[object] = []  # of x, and not chosen as a tensor's is

    def as_tensor(i: int, array: object) -> Tensor:
        try:
            made = np.array(array) if hasattr(array, "to_numpy") else array
            if not i and isinstance(made, np.ndarray) and made.dtype == np.float64:
                float64.append(array)
            return _as_tensor(made)
        except (TypeError, ValueError, RuntimeError) as error:
            _check_layout(f"arrays[{i}]", array)
            _check_columns(f"arrays[{i}]", array)
            raise core.wrong_kind(
                "batches", f"arrays[{i}]", array, "an array of numbers"
            ) from error

    def is_leaf(node: object) -> bool:
        return isinstance(node, list) and not any(map(is_array, node))

    tensors = tuple(
        optree.tree_map(
            partial(as_tensor, i), entry, is_leaf=is_leaf, none_is_leaf=True, namespace=TRAINED
        )
        for i, entry in enumerate(arrays)
    )
    if float64:
        problem = "batches: x is float64, numpy's default, which params of float32 refuse"
        mend = "write x.astype('float32'), or torch.as_tensor(x) to train in float64"
        warn(f"{problem}; {mend}")
    return tensors


def _as_tensor(array: object) -> Tensor:
    """Make a tensor, of the array's own memory if there is an array."""
    if not isinstance(array, np.ndarray) or array.flags.writeable:
        return torch.as_tensor(array)
    with warnings.catch_warnings():
        # Batches are only read, such as those of a file that is mapped into memory.
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.as_tensor(array)


def _check_layout(name: str, array: object) -> None:
    """Check that an array of numpy has a memory layout that torch can read."""
    if not isinstance(array, np.ndarray):
        return
    if min(array.strides, default=0) < 0:
        expected = f"{name} without negative strides"
        raise unexpected("batches", expected, array.strides, "copy it by x.copy()")
    if not array.dtype.isnative:
        expected = f"{name} in this processor's byte order"
        mend = f"convert it by x.astype({array.dtype.name!r})"
        raise unexpected("batches", expected, f"{array.dtype.str!r}", mend)


def _check_columns(name: str, frame: Any) -> None:  # Any: a frame or series, if it has dtypes
    """Check that pandas' data are numbers, and name the first column that does not hold them."""
    if not hasattr(frame, "dtypes"):
        return
    dtypes = dict(frame.dtypes) if hasattr(frame, "columns") else {None: frame.dtypes}
    for column, dtype in dtypes.items():
        if not isinstance(dtype, np.dtype) or dtype.kind not in "fiu":
            where = "" if column is None else f" in column {column!r}"
            expected = f"{name} to hold numbers"
            got = f"a {type(frame).__name__} of {dtype}{where}"
            mend = "pandas.get_dummies(x) encodes text, pandas.factorize(y)[0] numbers labels"
            raise unexpected("batches", expected, got, f"{mend}, .astype('float32') converts")


def check_walkable(where: str, batches: object) -> None:
    """Check that an argument can be iterated over batch by batch, and is not a single batch."""
    is_batch = isinstance(batches, tuple) and any(map(is_array, batches))
    if is_batch:
        raise unexpected(where, "batches", f"one batch, {describe(batches)}", "write [(x, target)]")
    # A user's class may be iterable by `__getitem__` alone.
    can_be_walked = hasattr(batches, "__iter__") or hasattr(type(batches), "__getitem__")
    if is_array(batches) or isinstance(batches, Mapping | str) or not can_be_walked:
        raise unexpected(where, "batches, an iterable of (x, target)", describe(batches))


def check_batch(where: str, batch: object) -> None:
    """Check that a batch is a pair (x, target)."""
    if not isinstance(batch, tuple | list) or len(batch) != 2:
        raise unexpected(where, "a batch (x, target)", describe(batch))


def check_example(where: str, x: object) -> None:
    """Check that an example input is a tensor, or a tree of them."""
    leaves = tree.leaves(x)
    if not leaves or not all(isinstance(leaf, Tensor) for leaf in leaves):
        raise core.wrong_kind(where, "x", x, "tensor")


def is_array(value: object) -> bool:
    """Return whether a value is an array of torch, numpy or pandas, and no list or tuple."""
    return isinstance(value, Tensor | np.ndarray) or hasattr(value, "to_numpy")


def count_examples(batch: object) -> int | None:
    """Count the examples of a batch: the length of x, or None if it has no tensor."""
    x = batch[0] if type(batch) is tuple and batch else batch
    first = x if isinstance(x, Tensor) else next(iter(tree.leaves(x)), None)
    return first.shape[0] if isinstance(first, Tensor) and first.ndim else None


T = TypeVar("T")

# No parameter has this shape, while a slice of one can be an empty vector.
_SHAPE: Final = (0, 0)


def nothing_like(tensor: Tensor) -> Tensor:
    """Return the empty tensor, of the same dtype and device, that a spent tensor becomes."""
    return _nothing(tensor.dtype, tensor.device)


@cache
def _nothing(dtype: torch.dtype, device: torch.device) -> Tensor:
    return torch.empty(_SHAPE, dtype=dtype, device=device)  # all spent tensors share it


def is_spent(leaf: object) -> bool:
    """Return whether a leaf is a spent tensor, and not an empty matrix of a user's own."""
    return (
        isinstance(leaf, Tensor)
        and leaf.shape == _SHAPE
        and not leaf.is_meta
        and leaf.is_set_to(nothing_like(leaf))
    )


def check_unspent(
    state: Arrays, where: str = "step", mend: str = "keep a copy, or use a step without donate"
) -> None:
    """Check that a state has not been donated to a step."""
    for path, leaf in named_leaves(state, states=True):
        if is_spent(leaf):
            expected = "a state that no step has updated in place"
            raise unexpected(where, expected, f"{path} empty", mend)


def copy_shared(leaves: Sequence[Tensor]) -> list[Tensor]:
    """Copy each leaf that shares memory with one before it: both may be updated in place."""
    seen, separate = set(), []
    for leaf in leaves:
        address = leaf.untyped_storage().data_ptr()
        separate.append(leaf.clone() if address in seen else leaf)
        seen.add(address)
    return separate


def unshare(given: T) -> T:
    """Copy each tensor of a tree that shares memory with one before it."""
    return tree.unflatten(given, copy_shared(tree.leaves(given, states=True)), states=True)


def spend_replaced(old: Arrays, new: Arrays) -> None:
    """Empty the tensors whose memory is the next state's, so that none is mistaken for it."""
    for before, after in zip(tree.children(old), tree.children(new), strict=True):
        if isinstance(before, Tensor):
            if before is not after and before.data_ptr() == after.data_ptr() and before.numel():
                # `set_` would need an operation and a storage, which costs time in a small step.
                before.data = nothing_like(before)
        elif before is not after:
            spend_replaced(before, after)
