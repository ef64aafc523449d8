"""Spent tensors: those of a donated state, whose memory now belongs to the next state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Final, TypeVar

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, named_leaves, tree, unexpected

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
    each = iter(copy_shared(tree.leaves(given, states=True)))
    return tree.map(lambda _: next(each), given, states=True)


def spend_replaced(old: Arrays, new: Arrays) -> None:
    """Empty the tensors whose memory is the next state's, so that none is mistaken for it."""
    for before, after in zip(tree.children(old), tree.children(new), strict=True):
        if isinstance(before, Tensor):
            if before is not after and before.data_ptr() == after.data_ptr() and before.numel():
                # `set_` would need an operation and a storage, which costs time in a small step.
                before.data = nothing_like(before)
        elif before is not after:
            spend_replaced(before, after)
