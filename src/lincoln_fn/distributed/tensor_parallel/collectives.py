"""What the processes of a group send each other in tensor parallelism.

With x_r for the tensor of process r,

    sum_over        x_0 + x_1 + ... + x_(n-1)    added in this order
    join_parts      [x_0 x_1 ... x_(n-1)]        side by side, along an axis
    take_own_part   x_r of such a tensor         which sends nothing

All processes get the same result, bit for bit. Tensors on `meta` have only shapes, so nothing is
sent for them.

A divided layer is a plain one, between two of these. What is done to a tensor on the way there
decides what is done to its gradient on the way back:

                there            back
    COPIED      nothing          sum_over         all processes have the same x
    ADDED       sum_over         nothing          x is the sum of all processes' x_r
    JOINED      join_parts       take_own_part    the last axis of x is divided
    DIVIDED     take_own_part    join_parts       process r takes x_r of the last axis

`split` and `join` do the same for trees. The shape of a leaf says how it is divided among n
processes: along the only axis where the part's size is 1 / n of the whole's. A leaf with the same
shape in both is the same in all processes.

Derivation. In COPIED, each process uses x, so dx = sum_r dx_r. In ADDED, y = sum_r x_r, so
dx_r = g. In the other two, each element of x has one place in y.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import reduce
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lincoln_fn.core import Params, T, format_briefly, tree, unexpected
from lincoln_fn.distributed.group import Group
from lincoln_fn.layers.common.normalisation import widened
from lincoln_fn.walk.internal import Record, VisitBack, VisitThere


def sum_over(x: Tensor, group: Group) -> Tensor:
    """Add up one tensor of each process, in the order of their ranks."""
    # The order makes the bits equal in all processes. Half precision is added up in float32.
    if group.size == 1:
        return x
    return reduce(torch.add, widened(group.gather(x)).unbind()).to(x.dtype)


def join_parts(x: Tensor, group: Group, axis: int = -1) -> Tensor:
    """Put one tensor of each process side by side."""
    return x if group.size == 1 else torch.cat(group.gather(x).unbind(), axis)


def take_own_part(x: Tensor, group: Group, axis: int = -1) -> Tensor:
    """Return a view of this process's part of a tensor that `join_parts` would make."""
    size = x.shape[axis] // group.size
    return x.narrow(axis, group.rank * size, size)


class Between(NamedTuple):
    """What is done to a tensor between the processes, and to its gradient."""

    there: Callable[[Tensor, Group], Tensor]
    back: Callable[[Tensor, Group], Tensor]


def _same(x: Tensor, group: Group) -> Tensor:
    return x


SAME: Final = Between(_same, _same)
COPIED: Final = Between(_same, sum_over)
ADDED: Final = Between(sum_over, _same)
JOINED: Final = Between(join_parts, take_own_part)
DIVIDED: Final = Between(take_own_part, join_parts)


def there(
    visit: VisitThere, params: Params, x: Tensor, *, group: Group, before: Between, after: Between
) -> tuple[Tensor, Record]:
    """Go through a part between the processes."""
    y, record = visit(0, params, before.there(x, group))
    return after.there(y, group), record


def back(
    visit: VisitBack, params: Params, cache: Record, g: Tensor, *, group: Group, before: Between,
    after: Between,
) -> tuple[Tensor | None, Record]:  # fmt: skip
    """Go back through a part between the processes."""
    dx, record = visit(0, params, cache, after.back(g, group))
    return None if dx is None else before.back(dx, group), record


def split(whole: T, like: T, group: Group) -> T:
    """Take this process's part of each tensor, such as the params of a trained network.

    Its tensors have memory of their own.

    Args:
        whole: a tree, such as the params or the `TrainState` of a network of plain layers.
        like: a tree of the parts' shapes, such as the params of the network of parallel layers from
            its `init`.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(5, 3)
        >>> plain, parallel = lf.dense(4), lf.distributed.column_parallel(4, group)
        >>> like = parallel.init(lf.Key(0), x)
        >>> split(plain.init(lf.Key(1), x), like, group)
        Params(weight=float32[3, 4], bias=float32[4])
    """

    def part(leaf: Tensor, own: Tensor) -> Tensor:
        axis = _axis("split", leaf, own, group)
        return leaf if axis is None else take_own_part(leaf, group, axis).clone()

    return _map("split", part, whole, like)


def join(parts: T, like: T, group: Group) -> T:
    """Put the parts of all processes together: the inverse of `split`. All of them must call it.

    Args:
        parts: the tree of this process.
        like: a tree of the whole's shapes, such as the params of the network of plain layers from
            its `init`. It may be on the device `meta`.

    Example:
        >>> group, whole = lf.distributed.alone(), torch.ones(3, 4)
        >>> join(split(whole, torch.ones(3, 4), group), whole, group).shape
        torch.Size([3, 4])
    """

    def whole(leaf: Tensor, full: Tensor) -> Tensor:
        axis = _axis("join", full, leaf, group)
        return leaf if axis is None else join_parts(leaf, group, axis)

    return _map("join", whole, parts, like)


def _axis(function: str, whole: Tensor, part: Tensor, group: Group) -> int | None:
    if whole.shape == part.shape:
        return None
    for axis in range(part.ndim):
        sizes = list(part.shape)
        sizes[axis] *= group.size
        if tuple(sizes) == whole.shape:
            return axis
    expected = f"a part of {tuple(whole.shape)} along one axis in {group.size} processes"
    raise unexpected(function, expected, part.shape)


def _map(function: str, f: Callable[[Tensor, Tensor], Tensor], given: T, like: T) -> T:
    if not tree.same_structure(given, like, states=True):
        raise unexpected(function, f"a tree like {format_briefly(like)}", format_briefly(given))
    return tree.map(f, given, like, states=True)
