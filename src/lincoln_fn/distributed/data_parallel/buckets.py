"""Gradients collected in buckets, and added up over all processes during the backward walk.

The gradient of each parameter is put into a bucket as soon as the walk back has computed it. A full
bucket is added up by another thread, while the walk continues. Every process has the same
buckets, and sends them in the same order.

Each process receives one slice of a bucket from all others, adds the contributions up in the fixed
tree, divides by the count, and sends its slice of the sum to all others. So each number is added
once, by one process, in an order that does not depend on their number.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor, Future
from threading import Lock
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Params, tree
from lincoln_fn.distributed.data_parallel.shards import Node, Shards, add_node, root_of
from lincoln_fn.optim.internal import slice_rows, split_row

# The positions of leaves of which each process has slices, taken together, and their whole shapes.
Slices: TypeAlias = Sequence[tuple[list[int], list[tuple[int, ...]]]]


def layout(params: Params, size: int, apart: Sequence[Sequence[int]] = ()) -> list[list[int]]:
    """Divide leaves into buckets, the last leaf first, as the walk back computes them."""
    # A bucket has leaves of one dtype, and more than `size` bytes only if it is a single leaf.
    # `apart` are positions that get a bucket of their own, in their order.
    buckets: list[list[int]] = []
    own = {i: positions for positions in apart for i in positions}
    filled = 0
    last: object = None  # what the leaves of a bucket have in common
    for i, leaf in reversed([*enumerate(tree.leaves(params))]):
        filled += leaf.nbytes
        kind = id(own[i]) if i in own else leaf.dtype
        if kind != last or (filled > size and i not in own):
            buckets.append([])
            filled, last = leaf.nbytes, kind
        buckets[-1].append(i)
    return [bucket[::-1] for bucket in buckets]


class Buckets:
    """The gradients of one step. It is filled by one call, and read once."""

    def __init__(
        self, shards: Shards, params: Params, size: int, executor: Executor,
        count: Callable[[], float], sliced: Slices,
    ) -> None:  # fmt: skip
        self._shards, self._params, self._leaves = shards, params, tree.leaves(params)
        self._executor, self._count = executor, count
        self._shapes = {positions[0]: shapes for positions, shapes in sliced}
        self._layout = layout(params, size, [positions for positions, _ in sliced])
        self._bucket_of = {i: b for b, bucket in enumerate(self._layout) for i in bucket}
        self._known: list[dict[Node, Tensor]] = [{} for _ in self._leaves]
        self._put: set[tuple[int, int]] = set()  # the shards and parameters that were put
        self.own_failed = False  # of the passes of this process
        self._failed: list[Tensor] = []  # by bucket: not 0 if the passes of a process have
        self._missing = [len(bucket) * len(shards.own) for bucket in self._layout]
        self._futures: list[Future[list[Tensor]]] = []
        self._lock = Lock()

    def put(self, shard: int, i: int, gradient: Tensor) -> None:
        """Add the gradient of parameter i on a shard."""
        with self._lock:
            self._put.add((shard, i))
            add_node(self._known[i], (0, shard), gradient, self._shards.total)
            self._missing[self._bucket_of[i]] -= 1
            while len(self._futures) < len(self._layout) and not self._missing[len(self._futures)]:
                bucket = self._layout[len(self._futures)]
                self._futures.append(self._executor.submit(self._sum, bucket))

    def put_zeros(self, shard: int) -> None:
        """Add zeros for what is missing of a shard: one without examples, or with an error."""
        for bucket in self._layout:
            for i, leaf in zip(bucket, self._make_whole_leaves(bucket), strict=True):
                if (shard, i) not in self._put:
                    self.put(shard, i, torch.zeros_like(leaf))

    def _make_whole_leaves(self, bucket: list[int]) -> list[Tensor]:
        leaves, shapes = [self._leaves[i] for i in bucket], self._shapes.get(bucket[0])
        if shapes is None:
            return leaves
        return [leaf.new_empty(shape) for leaf, shape in zip(leaves, shapes, strict=True)]

    def has_failed(self) -> bool:
        """Return, after `results`, whether a process had an error; True if that is not known."""
        return not self._failed or bool(self._failed[-1])

    def results(self) -> Params:
        """Wait for the sums, which mirror the parameters."""
        sums: list[Tensor] = list(self._leaves)
        for bucket, future in zip(self._layout, self._futures, strict=True):
            for i, value in zip(bucket, future.result(), strict=True):
                sums[i] = value
        each = iter(sums)
        return tree.map(lambda _: next(each), self._params)

    def _sum(self, bucket: list[int]) -> list[Tensor]:
        """Add up a bucket's gradients over all shards, and divide by the count."""
        shards, count = self._shards, self._count()
        known = [self._known[i] for i in bucket]
        if bucket[0] in self._shapes:
            return _sum_slices(shards, known, count)
        if shards.group.size == 1:
            return [root_of(nodes, shards.total) / count for nodes in known]
        leaves = [self._leaves[i] for i in bucket]
        starts = _starts(leaves, shards.group.size)
        nodes = shards.nodes(shards.group.rank)
        flat = leaves[0].new_empty((len(nodes), starts[-1]))
        for row, node in zip(flat, nodes, strict=True):
            for start, leaf, of_leaf in zip(starts, leaves, known, strict=False):
                _view(row, start, leaf).copy_(of_leaf[node])
        flat[:, -1] = torch.inf if self.own_failed else 0
        if shards.deterministic:
            rows = flat.view(len(nodes), shards.group.size, -1).movedim(1, 0)
            total = shards.group.gather(_sum_own_slice(shards, rows).div_(count)).flatten()
        else:
            total = shards.group.sum_in_place(flat[0]).div_(count)
        self._failed.append(total[-1])
        return [_view(total, start, leaf) for start, leaf in zip(starts, leaves, strict=False)]


def _view(row: Tensor, start: int, leaf: Tensor) -> Tensor:
    """View some numbers of a bucket in a leaf's shape and memory layout."""
    stride = torch.empty_like(leaf, device="meta").stride()
    return row[start:].as_strided(leaf.shape, stride)


def _starts(leaves: Sequence[Tensor], size: int) -> list[int]:
    """Return where each leaf begins in a bucket, and the bucket's length for `size` processes.

    The last number is none of a leaf's: it tells whether a process has an error.
    """
    # Some products depend on whether a matrix begins at a multiple of 64 bytes.
    unit = 64 // leaves[0].itemsize
    starts = [0]
    for leaf in leaves:
        starts.append(starts[-1] + -(-leaf.numel() // unit) * unit)
    starts[-1] = -(-(starts[-1] + 1) // (unit * size)) * unit * size  # a slice for each process
    return starts


def _sum_slices(
    shards: Shards, known: Sequence[Mapping[Node, Tensor]], count: float
) -> list[Tensor]:
    """Add up the nodes of all processes, and keep this process's slices of the sums."""
    nodes = shards.nodes(shards.group.rank)
    wholes = [[of_leaf[node] for of_leaf in known] for node in nodes]
    rows = torch.stack([slice_rows(whole, shards.group.size) for whole in wholes], 1)
    return split_row(_sum_own_slice(shards, rows) / count, wholes[0], shards.group)


def _sum_own_slice(shards: Shards, rows: Tensor) -> Tensor:
    """Add up, over all processes, what they send to this one: rows of shape (size, nodes, n)."""
    size, _, width = rows.shape
    nodes = [shards.nodes(rank) for rank in range(size)]
    received = shards.group.exchange(rows.reshape(size, -1), [len(each) * width for each in nodes])
    labels = [node for each in nodes for node in each]
    return root_of(dict(zip(labels, received.view(-1, width), strict=True)), shards.total)
