"""The losses of all shards, added up as soon as those of this process are known.

With S_s the sum of shard s's losses, and n_s its count (`losses/common/sums.py`),

    value = sum_s S_s / sum_s n_s

The sums are taken in the fixed tree, by another thread, while the backward walk continues.
"""

from __future__ import annotations

from concurrent.futures import Executor, Future

import torch
from torch import Tensor

from lincoln_fn.core import LayerError
from lincoln_fn.distributed.data_parallel.fixed_tree import sum_rows
from lincoln_fn.distributed.data_parallel.shards import Shards
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import parts_of


class LossSums:
    """The sums of one step. Each shard of this process is put once; then the value is read."""

    def __init__(self, shards: Shards, loss: Loss, executor: Executor) -> None:
        self._shards, self._loss, self._executor = shards, loss, executor
        # By shard: the values' sums, the count, and 1 if nothing is divided by the count.
        self._own: dict[int, Tensor] = {}
        self._totals: Future[Tensor]

    def put(self, shard: int, numbers: Tensor) -> None:
        """Add a shard's `PartSum.numbers`."""
        self._own[shard] = numbers
        if len(self._own) == len(self._shards.own):
            self._totals = self._executor.submit(self._add_up)

    def put_zeros(self, shard: int) -> None:
        """Add zeros for a shard without examples."""
        self.put(shard, self._zeros())

    def fail(self) -> None:
        """Add numbers for the shards that an error has left out, so that all go on to its end."""
        for shard in set(self._shards.own) - self._own.keys():
            zeros = self._zeros()
            zeros[-1] = 1  # the sums are divided by no count, which may be 0
            self.put(shard, zeros)

    def _zeros(self) -> Tensor:
        return torch.zeros(len(parts_of(self._loss)) + 3, dtype=torch.float64)

    def of(self, shard: int) -> Tensor:
        """Return what was put for a shard of this process."""
        return self._own[shard]

    def count(self) -> float:
        """Return what the sums are divided by, as soon as it is known."""
        *_, count, is_sum = self._totals.result().tolist()
        if not is_sum and not count:
            problem = "expected labels to average over, got only ignored ones or ones of weight 0"
            raise LayerError(self._loss.name, problem)
        return 1.0 if is_sum else count

    def value(self, dtype: torch.dtype | None) -> Tensor:
        """Return the loss, followed by the values of a weighted loss's parts."""
        values = (self._totals.result()[:-2] / self.count()).to(dtype)
        return values if len(values) > 1 else values[0]

    def _add_up(self) -> Tensor:
        own = torch.stack([self._own[shard] for shard in self._shards.own])
        return sum_rows(self._shards.group.gather(own).flatten(0, 1))
