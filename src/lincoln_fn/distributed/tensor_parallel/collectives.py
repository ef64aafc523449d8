"""What the processes of a group send each other in tensor parallelism.

With x_r for the tensor of process r,

    sum_over        x_0 + x_1 + ... + x_(n-1)    added in this order
    join_parts      [x_0 x_1 ... x_(n-1)]        side by side, along an axis
    take_own_part   x_r of such a tensor         which sends nothing

All processes get the same result, bit for bit. Tensors on `meta` have only shapes, so nothing is
sent for them.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import LayerError
from lincoln_fn.distributed.group import Group
from lincoln_fn.layers.common.normalisation import widened


def sum_over(x: Tensor, group: Group) -> Tensor:
    """Add up one tensor of each process, in the order of their ranks."""
    # The order makes the bits equal in all processes. Half precision is added up in float32.
    if group.size == 1 or x.is_meta:
        return x
    parts = widened(group.gather(x)).unbind()
    total = parts[0]
    for part in parts[1:]:
        total = total + part
    return total.to(x.dtype)


def join_parts(x: Tensor, axis: int, group: Group) -> Tensor:
    """Put one tensor of each process side by side."""
    if group.size == 1:
        return x
    parts = [x] * group.size if x.is_meta else group.gather(x).unbind()
    return torch.cat(tuple(parts), axis)


def take_own_part(x: Tensor, axis: int, group: Group) -> Tensor:
    """Return a view of this process's part of a tensor that `join_parts` would make."""
    size = x.shape[axis] // group.size
    return x.narrow(axis, group.rank * size, size)


def check_divisible(layer: str, what: str, number: int, group: Group) -> None:
    """Check that the processes can have equal parts of something."""
    if number % group.size:
        mend = f"take a multiple, such as {(number // group.size + 1) * group.size}"
        problem = f"expected {what} to be a multiple of the {group.size} processes, got {number}"
        raise LayerError(layer, f"{problem}; {mend}")
