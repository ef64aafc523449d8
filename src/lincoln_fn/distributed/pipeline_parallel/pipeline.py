"""Pipelines: a network cut into stages that different processes compute at the same time.

`schedules.py` says in which order a stage computes what, and `stages.py` has the layer. Here is a
step: the actions of this process's stages, in the order of the schedule.

    F   y, cache = stage.forward(params, x)                  x comes from the stage before
    B   dx, sites = cotangents(stage, params, cache, g)      g comes from the next stage
    W   dparams = grads_at(stage, params, sites)

A microbatch is a logical shard of the batch, as in `data_parallel/mean.py`. Its gradient is that of
the sum of its losses. The last stage computes the sum and the count, which go back with the g. The
sums over microbatches are taken in a fixed tree, so they do not depend on the schedule.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from itertools import accumulate
from typing import Final, NamedTuple

import attrs
from torch import Tensor

from lincoln_fn import compiler, core
from lincoln_fn.core import Arrays, Cache, Layer, Params, require, tree, unchanged, unexpected
from lincoln_fn.distributed.data_parallel import agreement, synchronised
from lincoln_fn.distributed.data_parallel.sharded_step import ShardedStep, StepSetup
from lincoln_fn.distributed.data_parallel.shards import Shards, bounds_of, drawing_for_all
from lincoln_fn.distributed.group import Group, alone
from lincoln_fn.distributed.pipeline_parallel import schedules
from lincoln_fn.distributed.pipeline_parallel.messages import Connections
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Kind, Schedule, Source
from lincoln_fn.distributed.pipeline_parallel.stages import Stages, Tied, device_of, lay_out_as_sent
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import sum_of
from lincoln_fn.training import LAST, Batch, Compute, Reduce
from lincoln_fn.walk.internal import Placed, Record, cotangents, grads_at


def stage_functions(i: int, layer: Layer, *, compiled: bool) -> dict[Kind, Placed]:
    """Make what stage i computes in F, B and W, with errors that name the stage."""

    # `compile` takes functions of two trees.
    def back(before: tuple[Params, Cache], g: Arrays) -> tuple[Arrays, Record]:
        return cotangents(layer, *before, g, dx=i > 0)

    def gradient(params: Params, sites: Record) -> Params:
        return grads_at(layer, params, sites)

    place, eager = f"pipeline[{i}]", (layer.forward, back, gradient)
    forward, dx, grads = map(compiler.compile, eager) if compiled else eager
    return {
        "F": Placed(place, layer.name, "forward", forward),
        "B": Placed(place, layer.name, "backward", lambda params, cache, g: dx((params, cache), g)),
        "W": Placed(place, layer.name, "grads", grads),
    }


@attrs.frozen(eq=False)
class PipelineSetup(StepSetup):
    """What stays the same in all steps; `shards` are those of the data-parallel processes."""

    stages: Stages
    schedule: Schedule
    order: tuple[Source, ...]  # the actions of this process; none waits for a later one
    parts: tuple[Layer, ...]
    functions: tuple[dict[Kind, Placed], ...]
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
        y, cache = setup.functions[stage]["F"](drawing, x)
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
        dx, sites = self._setup.functions[stage]["B"](drawing, cache, g)
        self._sites[stage, microbatch] = drawing, sites
        if stage - 1 in self._stages.own:
            self._gs[stage - 1, microbatch] = lay_out_as_sent(dx)
        elif stage > 0:
            numbers = self.numbers[shard].to(device_of(dx))
            sent = lay_out_as_sent(dx), numbers, numbers.new_zeros((), dtype=self.dtype)
            self._messages.send(self._stages.process_of(stage - 1), sent)

    def _gradient(self, stage: int, microbatch: int) -> None:
        drawing, sites = self._sites.pop((stage, microbatch))
        dparams = self._setup.functions[stage]["W"](drawing, sites)
        for i, gradient in enumerate(tree.leaves(dparams), self._starts[stage]):
            self.put(self._shard(microbatch), i, gradient)

    def _shard(self, microbatch: int) -> int:
        return self.shards.own.start + microbatch


_BUCKET: Final = 25 * 2**20  # bytes of gradients that are sent at once


class Pipeline(NamedTuple):
    """A network in stages, and how a training step computes it.

    Args:
        net: the layer of all stages. `init` makes the params of this process's stages, and () for
            the others. Its functions are called in all processes.
        reduce: for `make_step(net, loss, optimizer, reduce=reduce)`.
    """

    net: Layer
    reduce: Reduce


def pipeline(
    stages: Sequence[Layer],
    schedule: Schedule,
    group: Group,
    *,
    data: Group | None = None,
    tied: Sequence[Tied] = (),
    max_norm: float | None = None,
    limit: int | None = None,
    compiled: bool = False,
) -> Pipeline:
    """Cut a network into stages, which different processes compute.

    The step is that of the whole batch. With the same microbatches, any schedule and any number of
    processes give the same bits. So does `mean(alone(), shards=m)` in one process without a
    pipeline, if nothing is tied and the stages return contiguous tensors, as they are sent. A layer
    that draws random numbers draws those of the whole batch.

    Args:
        schedule: of these stages, such as `one_f_one_b(4, 8)`. It sets the number m of microbatches
            too. Each process gives the same.
        group: the processes, each with the same number of stages, usually one. `alone()` has all.
        data: the processes that have the same stages as this one, for other examples; `grid` makes
            both groups. Their gradients are added up in a fixed tree.
        tied: tuples of paths in params that are one parameter, such as ("0.0", "3.2") for layer 0
            of stage 0 and layer 2 of stage 3. All begin as the first; their gradients are added up.
        max_norm: clips the norm of the whole network's gradient. An optimizer sees only this
            process's stages, so do not use `optim.clip_by_global_norm`.
        limit: the largest number of caches that a stage may keep; None is no limit.
        compiled: whether each stage's forward, dx and dparams are compiled by `lf.compile`.

    Returns:
        The layer and the reduce. Each process gives the step the same batch, or the part of it of
        its data-parallel group: `lf.data.batches(..., shard=(data.rank, data.size))`.

    Raises:
        LayerError: if the schedule cannot run; from the step, the same one in all processes, if a
            stage raises one, or their batches, steps or networks differ.

    Source:
        Huang et al., "GPipe", 2019; Qi et al., "Zero Bubble Pipeline Parallelism", 2023.

    Example:
        >>> stages = lf.serial(lf.dense(4), lf.tanh()), lf.dense(1)
        >>> schedule = lf.distributed.one_f_one_b(stages=2, microbatches=3)
        >>> net, reduce = pipeline(stages, schedule, lf.distributed.alone())
        >>> lf.make_step(net, lf.losses.mse(), lf.optim.sgd(0.1), reduce=reduce).loss
        mse()
    """
    core.check_argument("pipeline", "group", Group, group, ("stages", "schedule", "group"))
    if isinstance(stages, Layer) or not stages:
        raise core.wrong_kind("pipeline", "stages", stages, "a tuple of layers")
    parts, data = tuple(stages), alone() if data is None else data
    if len(parts) % group.size:
        mend = "each process has the same number of stages"
        raise unexpected("pipeline", f"a multiple of {group.size} stages", len(parts), mend)
    schedules.check_schedule(schedule, stages=len(parts), limit=limit)
    schedule = tuple(tuple(Action(*action) for action in actions) for actions in schedule)
    require(max_norm is None or max_norm > 0, "pipeline", "max_norm above 0", max_norm)
    places = Stages(group, len(parts), tuple(tied))
    net = places.join(parts)
    if any(map(synchronised.is_synchronised, parts)):
        expected = "no layer that needs the whole batch at once"
        mend = "use batch_norm, whose statistics are those of a microbatch"
        raise unexpected("pipeline", expected, "sync_batch_norm", mend)
    microbatches = len(schedule[0]) // 3
    shards = Shards(data, microbatches * data.size, deterministic=True)
    bind = partial(_bind, places, shards, schedule, max_norm, compiled)
    first = partial(_first_error, group, data)
    reduce = Reduce(f"pipeline({net.parts}).reduce", bind, data.totals, first_error=first)
    return Pipeline(net, reduce)


def _first_error(
    group: Group, data: Group, error: Exception | None, place: int = 0
) -> tuple[Exception | None, int]:
    """Return the error of the first place, where stages have places one after the other."""
    if 0 < place < LAST:  # of a layer
        place += group.rank * 2**20
    return agreement.first_error(data, *agreement.first_error(group, error, place))


def _bind(
    stages: Stages, shards: Shards, schedule: Schedule, max_norm: float | None, compiled: bool,
    net: Layer, loss: Loss, name: str,
) -> Compute:  # fmt: skip
    if "clip_by_global_norm" in name:
        expected = "an optimizer that does not need the whole network's gradient"
        mend = "give max_norm to pipeline in place of clip_by_global_norm"
        raise unexpected("pipeline", expected, name, mend)
    order = tuple(each for each in schedules.in_order(schedule) if each[0] in stages.own)
    make = partial(stage_functions, compiled=compiled)
    functions = tuple(make(i, part) for i, part in enumerate(net.parts))
    setup = PipelineSetup(
        shards, loss, _BUCKET, stages, schedule, order, net.parts, functions, max_norm
    )
    settings = f"max_norm={max_norm}, tied={stages.tied}, schedule={schedule}"
    return partial(_compute, setup, name, settings)


def _compute(
    setup: PipelineSetup, name: str, settings: str, params: Params, batch: Batch,
    step: Tensor,
) -> tuple[Tensor, Params, Params]:  # fmt: skip
    stages, max_norm = setup.stages, setup.max_norm
    rows = agreement.rows_of_all("pipeline", setup.shards.group, params, batch, step, name)
    bounds = bounds_of("pipeline", setup.shards, rows)
    shapes = ", ".join(str(tuple(leaf.shape)) for leaf in tree.leaves(batch))
    described = {"step": f"step {int(step)} of {name}", "batch": shapes, "settings": settings}
    agreement.check_same("pipeline", stages.group, described)
    with (
        ThreadPoolExecutor(1) as beside,
        Connections(stages.group, device_of(batch)) as messages,
    ):
        run = PipelineStep(setup, params, batch, bounds, beside, messages)
        run.run()
        dparams = stages.sum_tied(run.dparams(), messages)
        if max_norm is not None:
            dparams = stages.clip(dparams, max_norm, messages)
        return run.value(), run.advance(), dparams
