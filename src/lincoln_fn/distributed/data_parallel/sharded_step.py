"""One step of a batch that is divided into shards: the sums over all of them, as in `mean.py`.

They are taken in the fixed tree, by another thread, as soon as those of this process are known.
Each shard advances the states by its own examples. A floating state, such as a running mean, is
averaged over all shards, weighted by their examples. Any other state, such as a key, is the same.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from concurrent.futures import Executor, Future

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Params, tree, unexpected
from lincoln_fn.distributed.data_parallel.buckets import Buckets, Slices
from lincoln_fn.distributed.data_parallel.shards import Shards, align, drawing_for, sum_rows
from lincoln_fn.losses.internal import Loss, parts_of
from lincoln_fn.training import Batch


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
        self.buckets = Buckets(setup.shards, params, setup.bucket_size, beside, self._count, sliced)

    def size(self, shard: int) -> int:
        """Return how many examples a shard has."""
        return self.bounds[shard + 1] - self.bounds[shard]

    def rows(self, shard: int, arrays: Arrays) -> Arrays:
        """Take the examples of a shard, aligned in memory, from those of this process."""
        first = self.bounds[shard] - self.bounds[self.shards.own.start]
        return tree.map(lambda array: align(array[first : first + self.size(shard)]), arrays)

    def drawing(self, shard: int, params: Params) -> Params:
        """Let each key in params draw for the examples of a shard."""
        return drawing_for(params, self.bounds[shard], self.size(shard), self.bounds[-1])

    def put_loss(self, shard: int, numbers: Tensor) -> None:
        """Add a shard's `PartSum.numbers`."""
        self.numbers[shard] = numbers
        if len(self.numbers) == len(self.shards.own):
            own = torch.stack([self.numbers[shard] for shard in self.shards.own])
            self._totals = self._beside.submit(
                lambda: sum_rows(self.shards.group.gather(own).flatten(0, 1))
            )

    def put_zeros(self, shard: int, *, is_sum: bool = False) -> None:
        """Add zeros for what is missing of a shard: one without examples, or with an error."""
        if shard not in self.numbers:
            zeros = torch.zeros(len(parts_of(self._loss)) + 3, dtype=torch.float64)
            zeros[-1] = is_sum
            self.put_loss(shard, zeros)
        self.buckets.put_zeros(shard)

    def fail(self) -> None:
        """Tell the other processes that this one has an error, and let them go on to its end."""
        self.buckets.own_failed = True
        for shard in self.shards.own:
            self.put_zeros(shard, is_sum=True)  # the sums are divided by no count, which may be 0

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
    each = iter(result.values())
    return tree.map(lambda _: next(each), params, states=True)


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
