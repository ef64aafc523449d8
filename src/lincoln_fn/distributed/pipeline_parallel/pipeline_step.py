"""One step of a pipeline: the actions of this process's stages, in the order of the schedule.

    F   y, cache = stage.forward(params, x)                  x comes from the stage before
    B   dx, sites = cotangents(stage, params, cache, g)      g comes from the next stage
    W   dparams = grads_at(stage, params, sites)

A microbatch is a logical shard of the batch, as in `data_parallel/mean.py`. Its gradient is that of
the sum of its losses. The last stage computes the sum and the count, which go back with the g. The
sums over microbatches are taken in a fixed tree, so they do not depend on the schedule.
"""

from __future__ import annotations

from concurrent.futures import Executor
from itertools import accumulate
from typing import Final

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree, unchanged
from lincoln_fn.distributed.data_parallel.buckets import Buckets
from lincoln_fn.distributed.data_parallel.shards import (
    Shards,
    drawing_for,
    drawing_for_all,
    rows_within,
)
from lincoln_fn.distributed.data_parallel.states import average_states
from lincoln_fn.distributed.data_parallel.sums import LossSums
from lincoln_fn.distributed.pipeline_parallel.messages import Connections, Json, Message
from lincoln_fn.distributed.pipeline_parallel.schedules import Schedule
from lincoln_fn.distributed.pipeline_parallel.simulation import Interval
from lincoln_fn.distributed.pipeline_parallel.stage_functions import StageFunctions
from lincoln_fn.distributed.pipeline_parallel.stages import Stages, lay_out_as_sent
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import sum_of
from lincoln_fn.training import Batch
from lincoln_fn.walk.internal import Record

_BUCKET: Final = 25 * 2**20  # bytes of gradients that are sent at once


@attrs.frozen(eq=False)
class PipelineSetup:
    """What stays the same in all steps."""

    stages: Stages
    shards: Shards  # of the data-parallel processes
    schedule: Schedule
    order: tuple[Interval, ...]  # the actions of this process; none waits for a later one
    parts: tuple[Layer, ...]
    functions: tuple[StageFunctions, ...]
    loss: Loss
    max_norm: float | None


class PipelineStep:
    """The actions of one step: `run` it once, then read the results."""

    def __init__(
        self,
        setup: PipelineSetup,
        params: Params,
        batch: Batch,
        bounds: list[int],
        beside: Executor,
        messages: Connections,
    ) -> None:
        self._setup, self._params, self._batch, self._bounds = setup, params, batch, bounds
        self._messages = messages
        self._losses = LossSums(setup.shards, setup.loss, beside)
        self._buckets = Buckets(setup.shards, params, _BUCKET, beside, self._losses.count)
        # The position of each stage's first leaf.
        self._starts = [*accumulate((len(tree.leaves(entry)) for entry in params), initial=0)]
        # By stage and microbatch.
        self._xs: dict[tuple[int, int], Arrays] = {}
        self._gs: dict[tuple[int, int], Arrays] = {}
        self._caches: dict[tuple[int, int], tuple[Params, Cache]] = {}
        self._sites: dict[tuple[int, int], tuple[Params, Record]] = {}
        self._advanced: dict[tuple[int, int], Params] = {}
        self._dtype: torch.dtype | None = None  # of the loss

    def expect(self) -> None:
        """Begin to receive what the neighbours send, in the order in which they compute it."""
        own, stages = self._setup.stages.own, self._setup.stages
        for kind, stage in (("F", own.start - 1), ("B", own.stop)):
            if 0 <= stage < stages.count:
                actions = [each for each in self._setup.schedule[stage] if each.kind == kind]
                keys = [each for each in actions if not self._is_empty(each.microbatch)]
                self._messages.expect(stages.process_of(stage), keys)

    def run(self) -> None:
        """Take all actions of this process."""
        compute = {"F": self._forward, "B": self._backward, "W": self._gradient}
        for microbatch in range(len(self._setup.shards.own)):
            if self._is_empty(microbatch):
                self._losses.put_zeros(self._shard(microbatch))
                self._buckets.put_zeros(self._shard(microbatch))
        for each in self._setup.order:
            if not self._is_empty(each.microbatch):
                compute[each.kind](each.stage, each.microbatch)

    def value(self) -> Tensor:
        """Return the loss, followed by the values of a weighted loss's parts."""
        return self._losses.value(self._dtype)

    def dparams(self) -> Params:
        """Wait for the gradient of the stages of this process."""
        return self._buckets.results()

    def advance(self) -> Params:
        """Return the params with the next states."""
        setup, params = self._setup, self._params
        if all(setup.parts[stage].advance is unchanged for stage in setup.stages.own):
            return params
        advanced = {
            self._shard(microbatch): tuple(
                self._advanced.get((stage, microbatch), entry) for stage, entry in enumerate(params)
            )
            for microbatch in range(len(setup.shards.own))
            if not self._is_empty(microbatch)
        }
        return average_states(setup.shards, params, advanced, self._bounds)

    def _forward(self, stage: int, microbatch: int) -> None:
        setup, params = self._setup, self._params[stage]
        first, end = self._range(microbatch)
        if stage == 0:
            x = self._rows(microbatch, self._batch[0])
        elif stage == setup.stages.own.start:
            x = self._messages.receive(("F", microbatch)).arrays
        else:
            x = self._xs.pop((stage, microbatch))
        drawing = drawing_for(params, first, end - first, self._bounds[-1])
        y, cache = setup.functions[stage].forward(drawing, x)
        if setup.parts[stage].advance is not unchanged:
            advanced = setup.parts[stage].advance(drawing, cache)
            self._advanced[stage, microbatch] = drawing_for_all(advanced)
        self._caches[stage, microbatch] = drawing, cache
        if stage == setup.stages.count - 1:
            target = self._rows(microbatch, self._batch[1])
            part = sum_of(setup.loss, y, target, end - first)
            self._gs[stage, microbatch] = part.g
            self._dtype = part.values.dtype
            self._losses.put(self._shard(microbatch), part.numbers.cpu())
        elif stage + 1 in setup.stages.own:
            self._xs[stage + 1, microbatch] = lay_out_as_sent(y)
        else:
            self._messages.send(setup.stages.process_of(stage + 1), Message(lay_out_as_sent(y)))

    def _backward(self, stage: int, microbatch: int) -> None:
        setup = self._setup
        drawing, cache = self._caches.pop((stage, microbatch))
        if stage == setup.stages.count - 1 or stage + 1 in setup.stages.own:
            g = self._gs.pop((stage, microbatch))
        else:
            message = self._messages.receive(("B", microbatch))
            g, (dtype, sums) = message.arrays, message.numbers
            self._dtype = getattr(torch, dtype)
            numbers = torch.tensor(sums, dtype=torch.float64)
            self._losses.put(self._shard(microbatch), numbers)
        dx, sites = setup.functions[stage].cotangents(drawing, cache, g)
        self._sites[stage, microbatch] = drawing, sites
        if stage - 1 in setup.stages.own:
            self._gs[stage - 1, microbatch] = lay_out_as_sent(dx)
        elif stage > 0:
            sums = self._losses.of(self._shard(microbatch)).tolist()
            value: Json = [str(self._dtype).removeprefix("torch."), sums]
            to = setup.stages.process_of(stage - 1)
            self._messages.send(to, Message(lay_out_as_sent(dx), value))

    def _gradient(self, stage: int, microbatch: int) -> None:
        drawing, sites = self._sites.pop((stage, microbatch))
        dparams = self._setup.functions[stage].grads_at(drawing, sites)
        for i, gradient in enumerate(tree.leaves(dparams), self._starts[stage]):
            self._buckets.put(self._shard(microbatch), i, gradient)

    def _shard(self, microbatch: int) -> int:
        """Return the number of a microbatch among those of all pipelines."""
        return self._setup.shards.own.start + microbatch

    def _range(self, microbatch: int) -> tuple[int, int]:
        """Return where a microbatch begins in the batch of all processes, and where it ends."""
        shard = self._shard(microbatch)
        return self._bounds[shard], self._bounds[shard + 1]

    def _is_empty(self, microbatch: int) -> bool:
        first, end = self._range(microbatch)
        return first == end

    def _rows(self, microbatch: int, arrays: Arrays) -> Arrays:
        begin = self._bounds[self._setup.shards.own.start]
        first, end = self._range(microbatch)
        return tree.map(lambda array: rows_within(first - begin, end - begin, array), arrays)
