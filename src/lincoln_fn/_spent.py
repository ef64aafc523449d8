"""Spent tensors: those of a donated state, whose memory the next state has taken."""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

# Of the dtypes that most states have; a tensor of no numbers may stand for any.
_NOTHING: Final = {dtype: torch.empty(0, dtype=dtype) for dtype in (torch.float32, torch.int64)}


def spend(tensor: Tensor) -> None:
    """Leave nothing in a tensor, so that nobody takes its successor's numbers for its own.

    Args:
        tensor: is changed, to shape (0,).

    Example:
        >>> tensor = torch.ones(2, 3)
        >>> spend(tensor)
        >>> tensor, is_spent(tensor)
        (tensor([]), True)
    """
    # By `set_`, it would take an operation and a storage of its own, which a small step notices.
    tensor.data = nothing_like(tensor)


def nothing_like(tensor: Tensor) -> Tensor:
    """Give what is left in a tensor when it is spent.

    Args:
        tensor: of any shape.

    Returns:
        A tensor of no numbers, of the same dtype and device.

    Example:
        >>> nothing_like(torch.ones(2, 3))
        tensor([])
    """
    nothing = _NOTHING.get(tensor.dtype) if tensor.is_cpu else None
    return tensor.new_empty(0) if nothing is None else nothing


def is_spent(leaf: object) -> bool:
    """Tell whether a leaf is a spent tensor.

    Args:
        leaf: of a state.

    Returns:
        True for an empty tensor of one axis that has no memory.

    Example:
        >>> is_spent(torch.ones(0, 3)), is_spent(0.5)
        (False, False)
    """
    return isinstance(leaf, Tensor) and leaf.shape == (0,) and leaf.data_ptr() == 0
