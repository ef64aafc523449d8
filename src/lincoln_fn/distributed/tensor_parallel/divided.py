"""Trees of tensors that are divided among processes: split from whole ones, and joined again.

The shape of a leaf says how it is divided among n processes: along the only axis where the part's
size is 1 / n of the whole's. A leaf with the same shape in both is the same in all processes.
"""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from lincoln_fn.core import LayerError, T, format_briefly, tree
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.tensor_parallel.collectives import join_parts, take_own_part


def split(whole: T, like: T, group: Group) -> T:
    """Take this process's part of each tensor, such as the params of a trained network.

    Args:
        whole: a tree, such as the params or the `TrainState` of a network of plain layers.
        like: a tree of the parts' shapes, such as the params of the network of parallel layers from
            its `init`.
        group: the processes among which it is divided.

    Returns:
        The tree of this process. Its tensors have memory of their own.

    Raises:
        LayerError: if the trees differ in structure, or shapes do not fit.

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
        group: the processes among which it is divided.

    Returns:
        The whole tree, the same in each process.

    Raises:
        LayerError: if the trees differ in structure, or shapes do not fit.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(5, 3)
        >>> plain, parallel = lf.dense(4), lf.distributed.column_parallel(4, group)
        >>> like = plain.init(lf.Key(0), x)
        >>> join(parallel.init(lf.Key(1), x), like, group)
        Params(weight=float32[3, 4], bias=float32[4])
    """

    def whole(leaf: Tensor, full: Tensor) -> Tensor:
        axis = _axis("join", full, leaf, group)
        return leaf if axis is None else join_parts(leaf, group, axis)

    return _map("join", whole, parts, like)


def _axis(function: str, whole: Tensor, part: Tensor, group: Group) -> int | None:
    """Find the axis along which a tensor is divided; None if it is not."""
    if whole.shape == part.shape:
        return None
    for axis in range(part.ndim):
        sizes = list(part.shape)
        sizes[axis] *= group.size
        if tuple(sizes) == whole.shape:
            return axis
    wanted = f"a part of {tuple(whole.shape)} along one axis in {group.size} processes"
    raise LayerError(function, f"expected {wanted}, got {tuple(part.shape)}")


def _map(function: str, f: Callable[[Tensor, Tensor], Tensor], given: T, like: T) -> T:
    if not tree.same_structure(given, like, states=True):
        raise LayerError(
            function, f"expected a tree like {format_briefly(like)}, got {format_briefly(given)}"
        )
    return tree.map(f, given, like, states=True)
