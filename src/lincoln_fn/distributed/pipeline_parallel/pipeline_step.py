"""One step of a pipeline: the actions of this process's stages, in the order of the schedule.

    F   y, cache = stage.forward(params, x)                  x comes from the stage before
    B   dx, sites = cotangents(stage, params, cache, g)      g comes from the next stage
    W   dparams = grads_at(stage, params, sites)

A microbatch is a logical shard of the batch, as in `data_parallel/mean.py`. Its gradient is that of
the sum of its losses. The last stage computes the sum and the count, which go back with the g. The
sums over microbatches are taken in a fixed tree, so they do not depend on the schedule.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from itertools import accumulate

import attrs

from lincoln_fn import compiler
from lincoln_fn.core import Arrays, Cache, Layer, Params, tree, unchanged
from lincoln_fn.distributed.data_parallel.sharded_step import ShardedStep, StepSetup
from lincoln_fn.distributed.data_parallel.shards import drawing_for_all
from lincoln_fn.distributed.pipeline_parallel.messages import Connections
from lincoln_fn.distributed.pipeline_parallel.schedules import Schedule, Source
from lincoln_fn.distributed.pipeline_parallel.stages import Stages, device_of, lay_out_as_sent
from lincoln_fn.losses.internal import sum_of
from lincoln_fn.training import Batch
from lincoln_fn.walk.internal import Placed, Record, cotangents, grads_at


@attrs.frozen(eq=False)
class StageFunctions:
    """What a stage computes in F, in B and in W."""

    forward: Callable[[Params, Arrays], tuple[Arrays, Cache]]
    cotangents: Callable[[Params, Cache, Arrays], tuple[Arrays, Record]]
    grads_at: Callable[[Params, Record], Params]


def stage_functions(i: int, layer: Layer, *, compiled: bool) -> StageFunctions:
    """Make what stage i computes, with errors that name the stage."""

    # `compile` takes functions of two trees.
    def back(before: tuple[Params, Cache], g: Arrays) -> tuple[Arrays, Record]:
        return cotangents(layer, *before, g, dx=i > 0)

    def gradient(params: Params, sites: Record) -> Params:
        return grads_at(layer, params, sites)

    place, eager = f"pipeline[{i}]", (layer.forward, back, gradient)
    forward, dx, grads = map(compiler.compile, eager) if compiled else eager
    return StageFunctions(
        Placed(place, layer.name, "forward", forward),
        Placed(place, layer.name, "backward", lambda params, cache, g: dx((params, cache), g)),
        Placed(place, layer.name, "grads", grads),
    )


@attrs.frozen(eq=False)
class PipelineSetup(StepSetup):
    """What stays the same in all steps; `shards` are those of the data-parallel processes."""

    stages: Stages
    schedule: Schedule
    order: tuple[Source, ...]  # the actions of this process; none waits for a later one
    parts: tuple[Layer, ...]
    functions: tuple[StageFunctions, ...]
    max_norm: float | None


class PipelineStep(ShardedStep):
    """The actions of one step: `run` it once, then read the results."""

    def __init__(
        self, setup: PipelineSetup, params: Params, batch: Batch, bounds: list[int],
        beside: Executor, messages: Connections,
    ) -> None:  # fmt: skip
        super().__init__(setup, params, batch, bounds, beside)
        self._setup, self._stages, self._messages = setup, setup.stages, messages
        self.is_still = all(setup.parts[s].advance is unchanged for s in setup.stages.own)
        # The position of each stage's first leaf.
        self._starts = [*accumulate((len(tree.leaves(entry)) for entry in params), initial=0)]
        # By stage and microbatch.
        self._xs: dict[tuple[int, int], Arrays] = {}
        self._gs: dict[tuple[int, int], Arrays] = {}
        self._caches: dict[tuple[int, int], tuple[Params, Cache]] = {}
        self._sites: dict[tuple[int, int], tuple[Params, Record]] = {}
        self._expect()

    def _expect(self) -> None:
        """Begin to receive what the neighbours send, in the order in which they compute it."""
        own, stages = self._stages.own, self._stages
        for kind, stage in (("F", own.start - 1), ("B", own.stop)):
            if 0 <= stage < stages.count:
                actions = [each for each in self._setup.schedule[stage] if each.kind == kind]
                keys = [each for each in actions if self.size(self._shard(each.microbatch))]
                self._messages.expect(stages.process_of(stage), keys)

    def run(self) -> None:
        """Take all actions of this process."""
        compute = {"F": self._forward, "B": self._backward, "W": self._gradient}
        for shard in self.shards.own:
            if self.size(shard):
                self.advanced[shard] = self.params
            else:
                self.put_zeros(shard)
        for stage, (kind, microbatch) in self._setup.order:
            if self.size(self._shard(microbatch)):
                compute[kind](stage, microbatch)

    def _forward(self, stage: int, microbatch: int) -> None:
        setup, shard = self._setup, self._shard(microbatch)
        if stage == 0:
            x = self.rows(shard, self.batch[0])
        elif stage == self._stages.own.start:
            x = self._messages.receive(("F", microbatch))
        else:
            x = self._xs.pop((stage, microbatch))
        drawing = self.drawing(shard, self.params[stage])
        y, cache = setup.functions[stage].forward(drawing, x)
        if setup.parts[stage].advance is not unchanged:
            entry = drawing_for_all(setup.parts[stage].advance(drawing, cache))
            before = self.advanced[shard]
            self.advanced[shard] = (*before[:stage], entry, *before[stage + 1 :])
        self._caches[stage, microbatch] = drawing, cache
        if stage == self._stages.count - 1:
            part = sum_of(setup.loss, y, self.rows(shard, self.batch[1]), self.size(shard))
            self._gs[stage, microbatch] = part.g
            self.dtype = part.values.dtype
            self.put_loss(shard, part.numbers.cpu())
        elif stage + 1 in self._stages.own:
            self._xs[stage + 1, microbatch] = lay_out_as_sent(y)
        else:
            self._messages.send(self._stages.process_of(stage + 1), lay_out_as_sent(y))

    def _backward(self, stage: int, microbatch: int) -> None:
        shard = self._shard(microbatch)
        drawing, cache = self._caches.pop((stage, microbatch))
        if stage == self._stages.count - 1 or stage + 1 in self._stages.own:
            g = self._gs.pop((stage, microbatch))
        else:
            g, numbers, of_dtype = self._messages.receive(("B", microbatch))
            self.dtype = of_dtype.dtype
            self.put_loss(shard, numbers.cpu())
        dx, sites = self._setup.functions[stage].cotangents(drawing, cache, g)
        self._sites[stage, microbatch] = drawing, sites
        if stage - 1 in self._stages.own:
            self._gs[stage - 1, microbatch] = lay_out_as_sent(dx)
        elif stage > 0:
            numbers = self.numbers[shard].to(device_of(dx))
            sent = lay_out_as_sent(dx), numbers, numbers.new_zeros((), dtype=self.dtype)
            self._messages.send(self._stages.process_of(stage - 1), sent)

    def _gradient(self, stage: int, microbatch: int) -> None:
        drawing, sites = self._sites.pop((stage, microbatch))
        dparams = self._setup.functions[stage].grads_at(drawing, sites)
        for i, gradient in enumerate(tree.leaves(dparams), self._starts[stage]):
            self.buckets.put(self._shard(microbatch), i, gradient)

    def _shard(self, microbatch: int) -> int:
        return self.shards.own.start + microbatch
