"""One step of a batch that is divided into shards: the sums over all of them, as in `mean.py`.

They are taken in the fixed tree, by another thread, as soon as those of this process are known.
Each shard advances the states by its own examples. A floating state, such as a running mean, is
averaged over all shards, weighted by their examples. Any other state, such as a key, is the same.

The gradient of each parameter is put into a bucket as soon as the walk back has computed it. A full
bucket is added up by another thread, while the walk continues. Every process has the same
buckets, and sends them in the same order.

Each process receives one slice of a bucket from all others, adds the contributions up in the fixed
tree, divides by the count, and sends its slice of the sum to all others.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future
from threading import Lock
from typing import TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Params, tree, unexpected
from lincoln_fn.distributed.data_parallel import shards
from lincoln_fn.distributed.data_parallel.shards import Node, Shards, align, root_of, sum_rows
from lincoln_fn.losses.internal import Loss, parts_of
from lincoln_fn.optim.internal import slice_rows, split_row
from lincoln_fn.training import Batch

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


@attrs.frozen(eq=False)
class StepSetup:
    """What stays the same in all steps."""

    shards: Shards
    loss: Loss
    bucket_size: int


class ShardedStep:
    """The sums of one step. Each shard of this process is put once; then the results are read."""

    dtype: torch.dtype | None = None  # of the loss
    is_still: bool  # whether no state advances

    def __init__(
        self, setup: StepSetup, params: Params, batch: Batch, bounds: list[int], beside: Executor,
        sliced: Slices = (),
    ) -> None:  # fmt: skip
        self.shards, self.params, self.batch, self.bounds = setup.shards, params, batch, bounds
        self.advanced: dict[int, Params] = {}  # by shard
        self._loss, self._beside = setup.loss, beside
        # By shard: the values' sums, the count, and 1 if nothing is divided by the count.
        self.numbers: dict[int, Tensor] = {}
        self._totals: Future[Tensor]
        self._leaves = tree.leaves(params)
        self._shapes = {positions[0]: shapes for positions, shapes in sliced}
        self._layout = layout(params, setup.bucket_size, [positions for positions, _ in sliced])
        self._bucket_of = {i: b for b, bucket in enumerate(self._layout) for i in bucket}
        self._known: list[dict[Node, Tensor]] = [{} for _ in self._leaves]
        self._put: set[tuple[int, int]] = set()  # the shards and parameters that were put
        self._own_failed = False  # of the passes of this process
        self._failed: list[Tensor] = []  # by bucket: not 0 if the passes of a process have
        self._missing = [len(bucket) * len(self.shards.own) for bucket in self._layout]
        self._sums: list[Future[list[Tensor]]] = []  # by bucket
        self._lock = Lock()

    def size(self, shard: int) -> int:
        """Return how many examples a shard has."""
        return self.bounds[shard + 1] - self.bounds[shard]

    def rows(self, shard: int, arrays: Arrays) -> Arrays:
        """Take the examples of a shard, aligned in memory, from those of this process."""
        first = self.bounds[shard] - self.bounds[self.shards.own.start]
        return tree.map(lambda array: align(array[first : first + self.size(shard)]), arrays)

    def drawing(self, shard: int, params: Params) -> Params:
        """Let each key in params draw for the examples of a shard."""
        return shards.drawing_for(params, self.bounds[shard], self.size(shard), self.bounds[-1])

    def put_loss(self, shard: int, numbers: Tensor) -> None:
        """Add a shard's `PartSum.numbers`."""
        self.numbers[shard] = numbers
        if len(self.numbers) == len(self.shards.own):
            own = torch.stack([self.numbers[shard] for shard in self.shards.own])
            self._totals = self._beside.submit(
                lambda: sum_rows(self.shards.group.gather(own).flatten(0, 1))
            )

    def put(self, shard: int, i: int, gradient: Tensor) -> None:
        """Add the gradient of parameter i on a shard."""
        with self._lock:
            self._put.add((shard, i))
            shards.add_node(self._known[i], (0, shard), gradient, self.shards.total)
            self._missing[self._bucket_of[i]] -= 1
            while len(self._sums) < len(self._layout) and not self._missing[len(self._sums)]:
                bucket = self._layout[len(self._sums)]
                self._sums.append(self._beside.submit(self._sum, bucket))

    def put_zeros(self, shard: int, *, is_sum: bool = False) -> None:
        """Add zeros for what is missing of a shard: one without examples, or with an error."""
        if shard not in self.numbers:
            zeros = torch.zeros(len(parts_of(self._loss)) + 3, dtype=torch.float64)
            zeros[-1] = is_sum
            self.put_loss(shard, zeros)
        for bucket in self._layout:
            leaves = [self._leaves[i] for i in bucket]
            shapes = self._shapes.get(bucket[0], [leaf.shape for leaf in leaves])
            for i, leaf, shape in zip(bucket, leaves, shapes, strict=True):
                if (shard, i) not in self._put:
                    whole = leaf if leaf.shape == shape else leaf.new_empty(shape)
                    self.put(shard, i, torch.zeros_like(whole))

    def fail(self) -> None:
        """Tell the other processes that this one has an error, and let them go on to its end."""
        self._own_failed = True
        for shard in self.shards.own:
            self.put_zeros(shard, is_sum=True)  # the sums are divided by no count, which may be 0

    def has_failed(self) -> bool:
        """Return, after `dparams`, whether a process had an error; True if that is not known."""
        return not self._failed or bool(self._failed[-1])

    def _count(self) -> float:
        """Return what the sums are divided by, as soon as it is known."""
        *_, count, is_sum = self._totals.result().tolist()
        if not is_sum and not count:
            got = "only ignored ones or ones of weight 0"
            raise unexpected(self._loss.name, "labels to average over", got)
        return 1.0 if is_sum else count

    def value(self) -> Tensor:
        """Return the loss, followed by the values of a weighted loss's parts."""
        values = (self._totals.result()[:-2] / self._count()).to(self.dtype)
        return values if len(values) > 1 else values[0]

    def advance(self) -> Params:
        """Return the params with the next states."""
        if self.is_still:
            return self.params
        return _average_states(self.shards, self.params, self.advanced, self.bounds)

    def dparams(self) -> Params:
        """Wait for the sums, which mirror the parameters."""
        sums: list[Tensor] = list(self._leaves)
        for bucket, future in zip(self._layout, self._sums, strict=True):
            for i, value in zip(bucket, future.result(), strict=True):
                sums[i] = value
        return tree.unflatten(self.params, sums)

    def _sum(self, bucket: list[int]) -> list[Tensor]:
        shards, count = self.shards, self._count()
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
        flat[:, -1] = torch.inf if self._own_failed else 0
        if shards.deterministic:
            rows = flat.view(len(nodes), shards.group.size, -1).movedim(1, 0)
            total = shards.group.gather(_sum_own_slice(shards, rows).div_(count)).flatten()
        else:
            total = shards.group.sum_in_place(flat[0]).div_(count)
        self._failed.append(total[-1])
        return [_view(total, start, leaf) for start, leaf in zip(starts, leaves, strict=False)]


def _view(row: Tensor, start: int, leaf: Tensor) -> Tensor:
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


def _average_states(
    shards: Shards, params: Params, advanced: Mapping[int, Params], bounds: Sequence[int]
) -> Params:
    """Average the states that the shards have advanced; those that none has changed stay."""
    group, old = shards.group, tree.leaves(params, states=True)
    trained = {id(leaf) for leaf in tree.leaves(params)}
    new = {shard: tree.leaves(of_shard, states=True) for shard, of_shard in advanced.items()}
    # The parameters of a frozen layer are states, too. They need not be sent.
    states = [i for i, leaf in enumerate(old) if id(leaf) not in trained]
    flags = [any(leaves[i] is not old[i] for leaves in new.values()) for i in states]
    of_any = group.gather(torch.tensor(flags)).any(0).tolist()
    changed = [i for i, is_changed in zip(states, of_any, strict=True) if is_changed]
    floating = [i for i in changed if old[i].is_floating_point()]
    result = dict(enumerate(old))
    if floating:
        averages = _averages(shards, [old[i] for i in floating], {
            shard: [leaves[i] for i in floating] for shard, leaves in new.items()
        }, bounds)  # fmt: skip
        result |= zip(floating, averages, strict=True)
    owned = [shards.of(rank) for rank in range(group.size)]
    has_examples = [bounds[own.start] < bounds[own.stop] for own in owned]
    own = next(iter(new.values()), old)
    for i in changed:
        if i not in floating:
            # A process without examples has not advanced anything.
            known = all(has_examples)
            result[i] = own[i] if known else group.gather(own[i])[has_examples.index(True)]
    return tree.unflatten(params, result.values(), states=True)


def _averages(
    shards: Shards, old: Sequence[Tensor], new: Mapping[int, Sequence[Tensor]],
    bounds: Sequence[int],
) -> list[Tensor]:  # fmt: skip
    sizes = [leaf.numel() for leaf in old]
    rows = torch.zeros((len(shards.own), sum(sizes)), dtype=torch.float64)
    for row, shard in zip(rows, shards.own, strict=True):
        if shard in new:
            values = torch.cat([leaf.flatten().double().cpu() for leaf in new[shard]])
            row.copy_(values * (bounds[shard + 1] - bounds[shard]))
    averages = torch.split(sum_rows(shards.group.gather(rows).flatten(0, 1)) / bounds[-1], sizes)
    return [average.view(leaf.shape).to(leaf) for average, leaf in zip(averages, old, strict=True)]
