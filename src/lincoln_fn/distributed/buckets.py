"""Gradients on their way: collected in buckets, and added up over all processes as the walk goes.

The gradient of each parameter is put into a bucket as soon as the walk back has computed it. A full
bucket is added up by a thread of its own, while the walk goes on. Every process has the same
buckets, and sends them in the same order.

Each process receives one slice of a bucket from all others, adds the contributions up in the fixed
tree, divides by the count, and sends its slice of the sum to all others. So each number is added
once, by one process, in an order that does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from threading import Lock

import attrs
import torch
from torch import Tensor

from lincoln_fn.distributed.fixed_tree import Node, add_node, nodes_within, root_of
from lincoln_fn.distributed.fully_sharded import own_slices, sliced_rows
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
        return nodes_within(own.start, own.stop, self.total)


def layout(
    leaves: Sequence[Tensor], size: int, apart: Sequence[Sequence[int]] = ()
) -> list[list[int]]:
    """Divide leaves into buckets, the last leaf first, as the walk back computes them.

    Args:
        leaves: the parameters.
        size: the bytes from which on a bucket is full.
        apart: positions that make up a bucket of their own, in their order.

    Returns:
        The positions of each bucket's leaves, which have one dtype.

    Example:
        >>> layout([torch.zeros(4), torch.zeros(2), torch.zeros(1)], 8)
        [[2, 1], [0]]
        >>> layout([torch.zeros(4), torch.zeros(2), torch.zeros(1)], 8, [[0, 1]])
        [[2], [0, 1]]
    """
    buckets: list[list[int]] = []
    own = {positions[-1]: list(positions) for positions in apart}
    inside = {i for positions in apart for i in positions}
    filled, dtype = size, None
    for i in reversed(range(len(leaves))):
        if i in inside:
            if i in own:
                buckets.append(own[i])
            filled = size
            continue
        if filled >= size or leaves[i].dtype is not dtype:
            buckets.append([])
            filled, dtype = 0, leaves[i].dtype
        buckets[-1].append(i)
        filled += leaves[i].nbytes
    return buckets


class Buckets:
    """The gradients of one step. It is filled by one call, and read once."""

    def __init__(
        self,
        shards: Shards,
        leaves: Sequence[Tensor],
        size: int,
        executor: Executor,
        count: Callable[[], float],
        sliced: Sequence[tuple[list[int], list[tuple[int, ...]]]] = (),
    ) -> None:
        self._shards, self._leaves = shards, leaves
        self._executor, self._count = executor, count
        # The whole shapes of the parameters of which this process has slices.
        self._shapes = {positions[0]: shapes for positions, shapes in sliced}
        self._layout = layout(leaves, size, [positions for positions, _ in sliced])
        self._bucket_of = {i: b for b, bucket in enumerate(self._layout) for i in bucket}
        self._known: list[dict[Node, Tensor]] = [{} for _ in leaves]
        self._missing = [len(bucket) * len(shards.own) for bucket in self._layout]
        self._futures: list[Future[list[Tensor]]] = []
        self._lock = Lock()

    def put(self, shard: int, i: int, gradient: Tensor) -> None:
        """Add the gradient of parameter i on a shard."""
        with self._lock:
            add_node(self._known[i], (0, shard), gradient, self._shards.total)
            self._missing[self._bucket_of[i]] -= 1
            while len(self._futures) < len(self._layout) and not self._missing[len(self._futures)]:
                bucket = self._layout[len(self._futures)]
                self._futures.append(self._executor.submit(self._sum, bucket))

    def put_zeros(self, shard: int) -> None:
        """Add zeros for a shard without examples."""
        for bucket in self._layout:
            for i, leaf in zip(bucket, self._whole_leaves(bucket), strict=True):
                self.put(shard, i, torch.zeros_like(leaf))

    def _whole_leaves(self, bucket: list[int]) -> list[Tensor]:
        """Return tensors with the shapes of a bucket's gradients."""
        leaves, shapes = [self._leaves[i] for i in bucket], self._shapes.get(bucket[0])
        if shapes is None:
            return leaves
        return [leaf.new_empty(shape) for leaf, shape in zip(leaves, shapes, strict=True)]

    def results(self) -> list[Tensor]:
        """Wait for the sums, in the order of the parameters."""
        sums: list[Tensor] = list(self._leaves)
        for bucket, future in zip(self._layout, self._futures, strict=True):
            for i, value in zip(bucket, future.result(), strict=True):
                sums[i] = value
        return sums

    def _sum(self, bucket: list[int]) -> list[Tensor]:
        """Add up a bucket's gradients over all shards, and divide by the count."""
        shards, count = self._shards, self._count()
        known = [self._known[i] for i in bucket]
        if bucket[0] in self._shapes:
            return _summed_slices(shards, known, count)
        if shards.group.size == 1:
            return [root_of(nodes, shards.total) / count for nodes in known]
        leaves = [self._leaves[i] for i in bucket]
        starts = _starts(leaves)
        nodes = shards.nodes(shards.group.rank)
        flat = leaves[0].new_zeros((len(nodes), starts[-1]))
        for row, node in zip(flat, nodes, strict=True):
            for start, of_leaf in zip(starts, known, strict=False):
                gradient = of_leaf[node].flatten()
                row[start : start + len(gradient)] = gradient
        if shards.deterministic:
            total = _summed_in_tree(shards, flat, count)
        else:
            total = shards.group.sum(flat[0]) / count
        return [
            total[start : start + leaf.numel()].view(leaf.shape)
            for start, leaf in zip(starts, leaves, strict=False)
        ]


def _starts(leaves: Sequence[Tensor]) -> list[int]:
    """Return where each leaf begins in a bucket, and the bucket's length."""
    # Some products depend on whether a matrix begins at a multiple of 64 bytes.
    unit = 64 // leaves[0].itemsize
    starts = [0]
    for leaf in leaves:
        starts.append(starts[-1] + -(-leaf.numel() // unit) * unit)
    return starts


def _summed_in_tree(shards: Shards, own: Tensor, count: float) -> Tensor:
    """Add up the nodes of all processes, of which `own`, of shape (nodes, n), are this one's."""
    size, n = shards.group.size, own.shape[1]
    width = -(-n // size)
    padded = torch.nn.functional.pad(own, (0, size * width - n))
    total = _own_slice(shards, padded.view(-1, size, width).movedim(1, 0)) / count
    return shards.group.gather(total).flatten()[:n]


def _summed_slices(
    shards: Shards, known: Sequence[Mapping[Node, Tensor]], count: float
) -> list[Tensor]:
    """Add up the nodes of all processes, and keep this process's slices of the sums."""
    nodes = shards.nodes(shards.group.rank)
    wholes = [[of_leaf[node] for of_leaf in known] for node in nodes]
    rows = torch.stack([sliced_rows(whole, shards.group.size) for whole in wholes], 1)
    return own_slices(_own_slice(shards, rows) / count, wholes[0], shards.group)


def _own_slice(shards: Shards, rows: Tensor) -> Tensor:
    """Add up, over all processes, what they send to this one: rows of shape (size, nodes, n)."""
    size, _, width = rows.shape
    nodes = [shards.nodes(rank) for rank in range(size)]
    sent = rows.reshape(size, -1)
    received = shards.group.exchange(sent, [len(each) * width for each in nodes])
    labels = [node for each in nodes for node in each]
    found = dict(zip(labels, received.view(-1, width), strict=True))
    return root_of(found, shards.total)
