"""The logical shards of a batch, which process computes each, and sums over them in a fixed tree.

n numbers are added in pairs, then the pairs in pairs, and so on:

    level 0    0   1   2   3   4
    level 1     0 1     2 3    4
    level 2        0 1 2 3     4
    level 3          0 1 2 3 4

Node i of level l is the sum of the numbers from i 2^l up to (i + 1) 2^l. A process that has the
numbers of a node computes it, and sends that one number in their place. The additions are the same
ones, so the bits do not depend on how the numbers are divided among processes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeAlias, TypeVar

import attrs
import optree
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Key, Params, unexpected
from lincoln_fn.distributed.group import Group

T = TypeVar("T", Tensor, int)
# (level, i)
Node: TypeAlias = tuple[int, int]


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
        nodes: dict[Node, int] = {}
        for shard in self.of(rank):
            add_node(nodes, (0, shard), 0, self.total)
        return [*nodes]


def bounds_of(where: str, shards: Shards, rows: Sequence[int]) -> list[int]:
    """Return where in the whole batch each shard begins, and at the end its size."""
    count, total = sum(rows), shards.total
    if count == 0:
        raise unexpected(where, "at least one example in the batch", "none")
    if total == shards.group.size:  # any division of the examples will do
        return [sum(rows[:rank]) for rank in range(total + 1)]
    bounds = [count * s // total for s in range(total + 1)]
    owned = [shards.of(rank) for rank in range(shards.group.size)]
    expected = [bounds[own.stop] - bounds[own.start] for own in owned]
    if list(rows) != expected:
        mend = "use lf.data.batches(..., shard=(group.rank, group.size))"
        raise unexpected(where, f"{expected} examples in the processes", list(rows), mend)
    return bounds


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
    return optree.tree_map(
        lambda node: change(node) if isinstance(node, Key) else node,
        params, is_leaf=lambda node: isinstance(node, Key), namespace=EVERYTHING,
    )  # fmt: skip


def add_node(known: dict[Node, T], node: Node, value: T, total: int) -> None:
    """Add a node to `known`, in place, and each sum that becomes known by it."""
    level, i = node
    while level < _height(total):
        if (i ^ 1) << level < total:
            sibling = known.pop((level, i ^ 1), None)
            if sibling is None:
                break
            value = value + sibling if i % 2 == 0 else sibling + value
        level, i = level + 1, i >> 1
    known[level, i] = value


def sum_rows(rows: Tensor) -> Tensor:
    """Add up the rows of a matrix."""
    return root_of({(0, i): row for i, row in enumerate(rows)}, len(rows))


def root_of(known: Mapping[Node, Tensor], total: int) -> Tensor:
    """Add up the nodes that make up the whole tree."""
    sums: dict[Node, Tensor] = {}
    for node, value in known.items():
        add_node(sums, node, value, total)
    return sums[_height(total), 0]


def _height(total: int) -> int:
    return (total - 1).bit_length()
