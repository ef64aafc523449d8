"""The logical shards of a batch: which examples each has, and which process computes it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs
import optree
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Key, LayerError, Params
from lincoln_fn.distributed.data_parallel.fixed_tree import Node, find_nodes
from lincoln_fn.distributed.group import Group


@attrs.frozen
class Shards:
    """The logical shards of a batch, and which of them this process computes."""

    group: Group
    total: int
    deterministic: bool

    @property
    def own(self) -> range:
        """The shards of this process."""
        return self.of(self.group.rank)

    def of(self, rank: int) -> range:
        """Return the shards of a process."""
        each = self.total // self.group.size
        return range(each * rank, each * (rank + 1))

    def nodes(self, rank: int) -> list[Node]:
        """Return the nodes of the fixed tree that a process computes."""
        own = self.of(rank)
        return find_nodes(own.start, own.stop, self.total)


def bounds_of(where: str, shards: Shards, rows: Sequence[int]) -> list[int]:
    """Return where in the whole batch each shard begins, and at the end its size."""
    count, total = sum(rows), shards.total
    if count == 0:
        raise LayerError(where, "expected at least one example in the batch, got none")
    if total == shards.group.size:  # any division of the examples will do
        return [sum(rows[:rank]) for rank in range(total + 1)]
    bounds = [count * s // total for s in range(total + 1)]
    owned = [shards.of(rank) for rank in range(shards.group.size)]
    expected = [bounds[own.stop] - bounds[own.start] for own in owned]
    if list(rows) != expected:
        mend = "use lf.data.batches(..., shard=(group.rank, group.size))"
        problem = f"expected {expected} examples in the processes, got {list(rows)}"
        raise LayerError(where, f"{problem}; {mend}")
    return bounds


def rows_within(first: int, end: int, array: Tensor) -> Tensor:
    """Take some rows, aligned in memory."""
    return align(array[first:end])


def align(x: Tensor) -> Tensor:
    """Copy a tensor that is not aligned as a new one is: the bits of products depend on that."""
    return x.clone() if x.data_ptr() % 64 else x


def drawing_for(params: Params, first: int, rows: int, of: int) -> Params:
    """Let each key in params draw for some rows of the batch."""
    return _with_keys(params, lambda key: key.for_rows(first, rows, of))


def drawing_for_all(params: Params) -> Params:
    """Let each key in params draw for the whole batch again."""
    return _with_keys(params, Key.for_all)


def _with_keys(params: Params, change: Callable[[Key], Key]) -> Params:
    def change_key(node: object) -> object:
        return change(node) if isinstance(node, Key) else node

    return optree.tree_map(
        change_key, params, is_leaf=lambda node: isinstance(node, Key), namespace=EVERYTHING
    )
