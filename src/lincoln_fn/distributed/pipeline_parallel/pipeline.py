"""Pipelines: a network cut into stages that different processes compute at the same time.

`schedules.py` says in which order a stage computes what; `stages.py` has the layer, and
`pipeline_step.py` a step.
"""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Final, NamedTuple

from torch import Tensor

from lincoln_fn.core import Layer, Params, check_argument, require, tree, unexpected, wrong_kind
from lincoln_fn.distributed.connect import alone
from lincoln_fn.distributed.data_parallel import agreement, synchronised
from lincoln_fn.distributed.data_parallel.shards import Shards, bounds_of
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.pipeline_parallel import pipeline_step, schedules
from lincoln_fn.distributed.pipeline_parallel.messages import Connections
from lincoln_fn.distributed.pipeline_parallel.schedules import Action, Schedule
from lincoln_fn.distributed.pipeline_parallel.stages import Stages, device_of, join_stages
from lincoln_fn.distributed.pipeline_parallel.tied_params import Tied, check_tied
from lincoln_fn.losses import Loss
from lincoln_fn.training import LAST, Batch, Compute, Reduce

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
        group: the processes, of which each has the same number of stages, usually one. `alone()`
            has all.
        data: the processes that have the same stages as this one, for other examples; `grid` makes
            both groups. Their gradients are added up in a fixed tree.
        tied: tuples of paths in params that are one parameter, such as ("0.0", "3.2") for layer 0
            of stage 0 and layer 2 of stage 3. All begin as the first, and get the sum of their
            gradients.
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
    check_argument("pipeline", "group", Group, group, ("stages", "schedule", "group"))
    if isinstance(stages, Layer) or not stages:
        raise wrong_kind("pipeline", "stages", stages, "a tuple of layers")
    parts, data = tuple(stages), alone() if data is None else data
    if len(parts) % group.size:
        mend = "each process has the same number of stages"
        raise unexpected("pipeline", f"a multiple of {group.size} stages", len(parts), mend)
    schedules.check_schedule(schedule, stages=len(parts), limit=limit)
    schedule = tuple(tuple(Action(*action) for action in actions) for actions in schedule)
    check_tied(tied, len(parts))
    require(max_norm is None or max_norm > 0, "pipeline", "max_norm above 0", max_norm)
    places = Stages(group, len(parts), tuple(tied))
    net = join_stages(parts, places)
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
    """Prepare the step of a network, which may be the fast one."""
    if "clip_by_global_norm" in name:
        expected = "an optimizer that does not need the whole network's gradient"
        mend = "give max_norm to pipeline in place of clip_by_global_norm"
        raise unexpected("pipeline", expected, name, mend)
    order = tuple(each for each in schedules.in_order(schedule) if each[0] in stages.own)
    make = partial(pipeline_step.stage_functions, compiled=compiled)
    functions = tuple(make(i, part) for i, part in enumerate(net.parts))
    setup = pipeline_step.PipelineSetup(
        shards, loss, _BUCKET, stages, schedule, order, net.parts, functions, max_norm
    )
    settings = f"max_norm={max_norm}, tied={stages.tied}, schedule={schedule}"
    return partial(_compute, setup, name, settings)


def _compute(
    setup: pipeline_step.PipelineSetup, name: str, settings: str, params: Params, batch: Batch,
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
        run = pipeline_step.PipelineStep(setup, params, batch, bounds, beside, messages)
        run.run()
        dparams = stages.sum_tied(run.buckets.results(), messages)
        if max_norm is not None:
            dparams = stages.clip(dparams, max_norm, messages)
        return run.value(), run.advance(), dparams
