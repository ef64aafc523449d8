"""Spent tensors: those of a donated state, whose memory now belongs to the next state."""

from __future__ import annotations

from collections.abc import Sequence
from operator import is_
from typing import Final, TypeVar

import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn._transformed import check_not_transformed
from lincoln_fn.layer import Arrays
from lincoln_fn.shapes import LayerError

T = TypeVar("T")

# No parameter has this shape, while a slice of one can be an empty vector.
_SHAPE: Final = (0, 0)
# One empty tensor for each dtype that most states have; they are shared.
_NOTHING: Final = {
    dtype: torch.empty(_SHAPE, dtype=dtype) for dtype in (torch.float32, torch.int64)
}


def spend(tensor: Tensor) -> None:
    """Empty a tensor, so that it cannot be mistaken for the tensor that now uses its memory.

    Args:
        tensor: is changed, to shape (0, 0).

    Example:
        >>> tensor = torch.ones(2, 3)
        >>> spend(tensor)
        >>> tensor, is_spent(tensor)
        (tensor([], size=(0, 0)), True)
    """
    # `set_` would need an operation and a storage, which costs time in a small step.
    tensor.data = nothing_like(tensor)


def nothing_like(tensor: Tensor) -> Tensor:
    """Return the empty tensor that a spent tensor becomes.

    Args:
        tensor: of any shape.

    Returns:
        An empty tensor of the same dtype and device.

    Example:
        >>> nothing_like(torch.ones(2, 3))
        tensor([], size=(0, 0))
    """
    nothing = _NOTHING.get(tensor.dtype) if tensor.is_cpu else None
    return tensor.new_empty(_SHAPE) if nothing is None else nothing


def is_spent(leaf: object) -> bool:
    """Return whether a leaf is a spent tensor.

    Args:
        leaf: of a state.

    Returns:
        True for an empty matrix that has no memory.

    Example:
        >>> is_spent(torch.ones(0, 3)), is_spent(0.5)
        (False, False)
    """
    return isinstance(leaf, Tensor) and leaf.shape == _SHAPE and leaf.data_ptr() == 0


def check_unspent(state: Arrays) -> None:
    """Check that a state has not been donated to a step.

    Args:
        state: a tree of tensors.

    Raises:
        LayerError: naming the first leaf that is spent.

    Example:
        >>> check_unspent((torch.ones(2),))
    """
    paths, leaves = tree.paths(state, states=True), tree.leaves(state, states=True)
    for path, leaf in zip(paths, leaves, strict=True):
        if is_spent(leaf):
            problem = f"expected a state that no step has updated in place, got {path} empty"
            raise LayerError("step", f"{problem}; keep a copy, or use a step without donate")


def check_donated(*tensors: Tensor) -> None:
    """Check that autograd and torch.func do not see a step that updates its state in place.

    Args:
        *tensors: the state's, or what is computed from them.

    Raises:
        LayerError: if they do.

    Example:
        >>> check_donated(torch.ones(2))
    """
    reason = "donate=True updates the state in place"
    check_not_transformed("step", reason, "use a step without donate", tensors)


def without_shared_memory(leaves: Sequence[Tensor]) -> list[Tensor]:
    """Copy each leaf that shares memory with one before it, because both may be updated in place.

    Args:
        leaves: tensors.

    Returns:
        As many tensors, no two of which share memory.

    Example:
        >>> a = torch.ones(2)
        >>> [leaf is a for leaf in without_shared_memory([a, a])]
        [True, False]
    """
    taken, separate = set(), []
    for leaf in leaves:
        address = leaf.untyped_storage().data_ptr()
        separate.append(leaf.clone() if address in taken else leaf)
        taken.add(address)
    return separate


def apart(given: T) -> T:
    """Copy each tensor of a tree that shares memory with one before it.

    Args:
        given: a tree.

    Returns:
        The tree; the same one if no two tensors share memory.

    Raises:
        LayerError: as `check_donated` does.

    Example:
        >>> a = torch.ones(2)
        >>> first, second = apart((a, a))
        >>> first is a, second is a
        (True, False)
    """
    leaves = tree.leaves(given, states=True)
    check_donated(*leaves)
    new = without_shared_memory(leaves)
    if all(map(is_, new, leaves)):
        return given
    each = iter(new)
    return tree.map(lambda _: next(each), given, states=True)


def spend_replaced(old: Arrays, new: Arrays) -> None:
    """Empty the tensors whose memory now belongs to the next state.

    Args:
        old: a tree of tensors, some of which are changed.
        new: a tree of the same structure.

    Example:
        >>> before, other = torch.ones(2), torch.ones(2)
        >>> spend_replaced((before, other), (before.detach(), torch.zeros(2)))
        >>> before, other
        (tensor([], size=(0, 0)), tensor([1., 1.]))
    """
    for before, after in zip(tree.children(old), tree.children(new), strict=True):
        if isinstance(before, Tensor):
            if before is not after and before.data_ptr() == after.data_ptr() and before.numel():
                spend(before)
        elif before is not after:
            spend_replaced(before, after)
