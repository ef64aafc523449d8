"""The adjoint of a step that several processes take together, each with its part of the batch.

The batch's loss is a sum over logical shards, divided by a count (`losses/common/sums.py`). So is
each derivative along bar d. A process computes those of its own shards, and all are added up as the
gradient is: in a fixed tree, whose bits do not depend on the number of processes. What belongs to
an example is a vector over the whole batch, with zeros for the examples of other shards.
"""

from __future__ import annotations

from functools import partial

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, Params, tree
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import PartSum, sum_of
from lincoln_fn.replay.running_statistics import Statistics
from lincoln_fn.replay.step_adjoint import Bars, Found, StepAdjoint
from lincoln_fn.training import Batch, Compute, ComputeShards, Reduce, TrainState


@attrs.frozen(slots=False, eq=False)
class SharedAdjoint(StepAdjoint):
    """The adjoint of a step with `reduce`. Each process gives it the whole batch."""

    reduce: Reduce
    of_gradient: Compute
    of_shards: ComputeShards

    @classmethod
    def of(cls, adjoint: StepAdjoint, reduce: Reduce, name: str) -> SharedAdjoint:
        """Share the adjoint of a step of this name."""
        if reduce.bind_shards is None:
            problem = f"expected a step of one process or of distributed.mean, got {name}"
            raise LayerError("metagradient", problem)
        of_gradient = reduce.bind(*adjoint.fast, name)
        of_shards = reduce.bind_shards(adjoint.net, adjoint.loss, name)
        fields = adjoint.net, adjoint.loss, adjoint.optimizer, adjoint.wants
        return cls(*fields, reduce, of_gradient, of_shards)

    def gradient(self, state: TrainState, batch: Batch) -> Params:
        """Compute d of the whole batch."""
        return self.of_gradient(state.params, self._own(batch), state.step)[2]

    def along(
        self, state: TrainState, direction: Params, batch: Batch, statistics: Statistics
    ) -> Found:
        """Add up what the shards compute."""
        x, target = batch
        rows = torch.arange(len(tree.leaves(x)[0]))
        like = (
            state.params,
            tree.leaves(state.params)[0].new_zeros(len(rows)) if "examples" in self.wants else None,
            tree.map(torch.zeros_like, x) if "x" in self.wants else None,
        )
        own = self._own((x, (target, rows)))
        of_shard = partial(self._shard, tree.leaves(direction))
        product, examples, of_x = self.of_shards(of_shard, like, own, state.step)[2]
        return Found(Bars(product, (), statistics), {}, examples, of_x)

    def _own(self, batch: Batch) -> Batch:
        """Take this process's part, as `data.batches` divides a batch."""
        count, (rank, size) = len(tree.leaves(batch)[0]), self.reduce.shard
        rows = slice(count * rank // size, count * (rank + 1) // size)
        return tree.map(lambda array: array[rows], batch)

    def _shard(
        self, direction: list[Tensor], like: Params, batch: Batch
    ) -> tuple[Tensor, Params, Params]:
        """Compute a shard's loss, and what it adds to `like`, whose keys draw for its examples."""
        (params, *zeros), (x, (target, rows)) = like, batch
        each = iter(direction)
        sums = list[PartSum]()

        def gradient_of(loss: Loss, prediction: Arrays, target: Arrays) -> Arrays:
            sums.append(sum_of(loss, prediction, target, len(rows)))
            return sums[-1].g

        own = self.dual_pass(
            gradient_of, params, tree.map(lambda _: next(each), params), (x, target), {}
        )
        of_rows = tree.map(
            lambda zero, value: zero.index_copy(0, rows, value), zeros, [own.examples, own.x]
        )
        return sums[0].numbers, like, (own.bars.params, *of_rows)
