"""One step of a pipeline: the actions of this process's stages, in the order of the schedule.

    F   y, cache = stage.forward(params, x)                  x comes from the stage before
    B   dx, sites = cotangents(stage, params, cache, g)      g comes from the stage behind
    W   dparams = grads_at(stage, params, sites)

Microbatch m is a logical shard of the batch, as in `data_parallel.py`. Its gradient is that of the
sum of its losses. The last stage computes the sum and the count, which go back with the g. The sums
over microbatches are taken in a fixed tree, so they do not depend on the schedule.
"""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import Executor, Future

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.data import Batch
from lincoln_fn.distributed.data_parallel.buckets import Buckets
from lincoln_fn.distributed.data_parallel.fixed_tree import Node, add_node
from lincoln_fn.distributed.data_parallel.shards import (
    Shards,
    drawing_for,
    drawing_for_all,
    rows_within,
)
from lincoln_fn.distributed.data_parallel.states import averaged_states
from lincoln_fn.distributed.pipeline_parallel.messages import Connections, Json, Message
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Schedule
from lincoln_fn.distributed.pipeline_parallel.stage_functions import StageFunctions
from lincoln_fn.distributed.pipeline_parallel.stages import Stages, handed_on
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.losses._parts import parts_of
from lincoln_fn.losses._sums import sum_of
from lincoln_fn.losses.loss import Loss
from lincoln_fn.shapes import LayerError
from lincoln_fn.walk.visits import Record


@attrs.frozen(eq=False)
class Task:
    """What stays the same in all steps.

    `order` is an order of all stages' actions in which none waits for a later one. `shards` are
    those of the data-parallel processes.
    """

    stages: Stages
    shards: Shards
    schedule: Schedule
    order: tuple[tuple[int, Action], ...]
    parts: tuple[Layer, ...]
    functions: tuple[StageFunctions, ...]
    loss: Loss
    bucket_size: int


class PipelinePass:
    """The actions of one step: `run` it once, then read the results."""

    def __init__(
        self,
        task: Task,
        params: Params,
        batch: Batch,
        bounds: list[int],
        beside: Executor,
        messages: Connections,
    ) -> None:
        self._task, self._params, self._batch, self._bounds = task, params, batch, bounds
        self._beside, self._messages = beside, messages
        leaves = tree.leaves(params)
        self._buckets = Buckets(task.shards, leaves, task.bucket_size, beside, self._count)
        self._starts = _starts(params)
        # By stage and microbatch.
        self._xs: dict[tuple[int, int], Arrays] = {}
        self._gs: dict[tuple[int, int], Arrays] = {}
        self._caches: dict[tuple[int, int], tuple[Params, Cache]] = {}
        self._sites: dict[tuple[int, int], tuple[Params, Record]] = {}
        self._advanced: dict[tuple[int, int], Params] = {}
        # By microbatch: the values' sums, the count, and 1 if nothing is divided by the count.
        self._sums: dict[int, list[float]] = {}
        self._dtype: torch.dtype | None = None
        self._totals: Future[Tensor]

    def expect(self) -> None:
        """Begin to receive what the neighbours send, in the order in which they compute it."""
        own, stages = self._task.stages.own, self._task.stages
        for kind, stage in (("F", own.start - 1), ("B", own.stop)):
            if 0 <= stage < stages.count:
                keys = [a for a in self._task.schedule[stage] if a[0] == kind]
                keys = [a for a in keys if not self._is_empty(a[1])]
                self._messages.expect(stages.process_of(stage), keys)

    def run(self) -> None:
        """Take all actions of this process."""
        compute = {"F": self._forward, "B": self._backward, "W": self._gradient}
        for microbatch in range(len(self._task.shards.own)):
            if self._is_empty(microbatch):
                self._skip(microbatch)
        for stage, action in self._task.order:
            if stage in self._task.stages.own and not self._is_empty(action.microbatch):
                compute[action.kind](stage, action.microbatch)

    def value(self) -> Tensor:
        """Return the loss, followed by the values of a weighted loss's parts."""
        values = (self._totals.result()[:-2] / self._count()).to(self._dtype)
        return values if len(values) > 1 else values[0]

    def own_values(self) -> Tensor:
        """Return the sums of the microbatches."""
        return torch.tensor([*self._sums.values()])

    def dparams(self) -> Params:
        """Wait for the gradient of the stages of this process."""
        sums = iter(self._buckets.results())
        return tree.map(lambda _: next(sums), self._params)

    def advanced(self) -> Params:
        """Return the params with the next states."""
        task, params = self._task, self._params
        if all(task.parts[stage].advance is unchanged for stage in task.stages.own):
            return params
        advanced = {
            task.shards.own.start + microbatch: tuple(
                self._advanced.get((stage, microbatch), entry) for stage, entry in enumerate(params)
            )
            for microbatch in range(len(task.shards.own))
            if not self._is_empty(microbatch)
        }
        return averaged_states(task.shards, task.shards.group, params, advanced, self._bounds)

    def _forward(self, stage: int, microbatch: int) -> None:
        task, params = self._task, self._params[stage]
        first, end = self._range(microbatch)
        if stage == 0:
            x = self._rows(microbatch, self._batch[0])
        elif stage == task.stages.own.start:
            x = self._messages.receive(("F", microbatch)).arrays
        else:
            x = self._xs.pop((stage, microbatch))
        drawing = drawing_for(params, first, end - first, self._bounds[-1])
        y, cache = task.functions[stage].forward(drawing, x)
        if task.parts[stage].advance is not unchanged:
            advanced = task.parts[stage].advance(drawing, cache)
            self._advanced[stage, microbatch] = drawing_for_all(advanced)
        self._caches[stage, microbatch] = drawing, cache
        if stage == task.stages.count - 1:
            target = self._rows(microbatch, self._batch[1])
            part = sum_of(task.loss, y, target, end - first)
            self._gs[stage, microbatch] = part.g
            self._dtype = part.values.dtype
            self._add_sums(microbatch, part.numbers.tolist())
        elif stage + 1 in task.stages.own:
            self._xs[stage + 1, microbatch] = handed_on(y)
        else:
            self._messages.send(task.stages.process_of(stage + 1), Message(handed_on(y)))

    def _backward(self, stage: int, microbatch: int) -> None:
        task = self._task
        drawing, cache = self._caches.pop((stage, microbatch))
        if stage == task.stages.count - 1 or stage + 1 in task.stages.own:
            g = self._gs.pop((stage, microbatch))
        else:
            message = self._messages.receive(("B", microbatch))
            g, (dtype, sums) = message.arrays, message.numbers
            self._dtype = getattr(torch, dtype)
            self._add_sums(microbatch, sums)
        dx, sites = task.functions[stage].cotangents(drawing, cache, g)
        self._sites[stage, microbatch] = drawing, sites
        if stage - 1 in task.stages.own:
            self._gs[stage - 1, microbatch] = handed_on(dx)
        elif stage > 0:
            numbers: Json = [str(self._dtype).removeprefix("torch."), self._sums[microbatch]]
            to = task.stages.process_of(stage - 1)
            self._messages.send(to, Message(handed_on(dx), numbers))

    def _gradient(self, stage: int, microbatch: int) -> None:
        drawing, sites = self._sites.pop((stage, microbatch))
        dparams = self._task.functions[stage].grads_at(drawing, sites)
        shard = self._task.shards.own.start + microbatch
        for i, gradient in enumerate(tree.leaves(dparams), self._starts[stage]):
            self._buckets.put(shard, i, gradient)

    def _skip(self, microbatch: int) -> None:
        """Give a microbatch without examples its zeros."""
        self._add_sums(microbatch, [0.0] * (len(parts_of(self._task.loss)) + 3))
        shard = self._task.shards.own.start + microbatch
        for i, leaf in enumerate(tree.leaves(self._params)):
            self._buckets.put(shard, i, torch.zeros_like(leaf))

    def _add_sums(self, microbatch: int, sums: list[float]) -> None:
        self._sums[microbatch] = sums
        if len(self._sums) == len(self._task.shards.own):
            self._totals = self._beside.submit(self._add_up)

    def _add_up(self) -> Tensor:
        """Add up the sums of all shards, as soon as those of this pipeline are known."""
        shards = self._task.shards
        ordered = [self._sums[microbatch] for microbatch in range(len(shards.own))]
        own = torch.tensor(ordered, dtype=torch.float64)
        known: dict[Node, Tensor] = {}
        for shard, sums in enumerate(shards.group.gather(own).flatten(0, 1)):
            add_node(known, (0, shard), sums, shards.total)
        return next(iter(known.values()))

    def _count(self) -> float:
        """Return what the sums are divided by."""
        *_, count, is_sum = self._totals.result().tolist()
        if not is_sum and not count:
            problem = "expected labels to average over, got only ignored ones or ones of weight 0"
            raise LayerError(self._task.loss.name, problem)
        return 1.0 if is_sum else count

    def _range(self, microbatch: int) -> tuple[int, int]:
        """Return where a microbatch begins in the batch of all processes, and where it ends."""
        shard = self._task.shards.own.start + microbatch
        return self._bounds[shard], self._bounds[shard + 1]

    def _is_empty(self, microbatch: int) -> bool:
        first, end = self._range(microbatch)
        return first == end

    def _rows(self, microbatch: int, arrays: Arrays) -> Arrays:
        begin = self._bounds[self._task.shards.own.start]
        first, end = self._range(microbatch)
        return tree.map(lambda array: rows_within(first - begin, end - begin, array), arrays)


def _starts(params: Params) -> list[int]:
    """Return the position of each stage's first leaf."""

    def positions() -> Iterator[int]:
        position = 0
        for entry in params:
            yield position
            position += len(tree.leaves(entry))

    return list(positions())
