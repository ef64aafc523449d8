"""Data parallelism: each process computes the gradient of some examples, and all add them up.

A batch of N examples is divided into a fixed number of logical shards. Shard s computes the sum of
its losses, S_s, and its count, n_s (`losses/common/sums.py`):

    value = sum_s S_s / sum_s n_s
    dparams = sum_s dS_s / sum_s n_s

A process computes the shards that are its own, one after the other. The sums are taken in a fixed
tree over the shards. So the bits do not depend on how many processes there are.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from functools import partial

import attrs
import torch
from torch import Tensor

from lincoln_fn import compiler, core
from lincoln_fn.compiler.internal import digest
from lincoln_fn.core import Layer, Params, Positive, PositiveInt, bare, tree, unexpected
from lincoln_fn.distributed.data_parallel import agreement, synchronised
from lincoln_fn.distributed.data_parallel.fully_sharded import check_sharding
from lincoln_fn.distributed.data_parallel.passes import DataParallelSetup, Passes, run_pass
from lincoln_fn.distributed.data_parallel.shards import Shards, bounds_of
from lincoln_fn.distributed.group import Group, check_divisible
from lincoln_fn.losses import Loss
from lincoln_fn.recording import recorded
from lincoln_fn.training import Batch, Compute, ComputeShards, OfShard, Reduce


@core.constructor
def mean(
    group: Group,
    *,
    shards: PositiveInt | None = None,
    deterministic: bool = True,
    compiled: bool = False,
    bucket_mb: Positive = 25.0,
) -> Reduce:
    """Compute the gradient of a batch whose examples are divided among processes.

    The step is that of the whole batch: its loss, its gradient, its running statistics. A layer
    that draws random numbers draws the same ones for an example wherever it is computed. Clipping
    and accumulation come after it, so they see the whole batch's gradient.

    Args:
        group: the processes. All of them call `mean` in the same order.
        shards: into how many logical shards a batch is divided, a multiple of the number of
            processes. With the same number of shards, and the same number of threads, any number of
            processes gives the same bits. None is one for each process.
        deterministic: whether sums are taken in a fixed tree. If not, the sum of each bucket is the
            backend's own, which takes less time, and `shards` must be None.
        compiled: whether forward and backward of a shard are compiled, as `lf.compile` does. It
            takes less time for small networks. Gradients are then sent after the pass, and not
            during it.
        bucket_mb: how many megabytes of gradients are sent at once.

    Returns:
        The reduce, for `make_step(..., reduce=...)`, whose batches are those of
        `lf.data.batches(..., shard=(group.rank, group.size))`; or for `fit`.

    Raises:
        LayerError: if settings or versions of the processes differ; from `make_step`, if compiled
            is True and layers communicate; from the step, the same one in all processes, if their
            batches, steps, networks or first parameters differ.

    Example:
        >>> net, loss, optimizer = lf.dense(1), lf.losses.mse(), lf.optim.sgd(0.1)
        >>> reduce = mean(lf.distributed.alone(), shards=2)
        >>> step = lf.make_step(net, loss, optimizer, reduce=reduce)
        >>> state = lf.init_state(net, optimizer, lf.Key(0), torch.ones(4, 3))
        >>> step(state, (torch.ones(4, 3), torch.ones(4, 1)))[0].step
        tensor(1)
    """
    total = group.size if shards is None else shards
    if group.size > 1:
        described = {
            "settings": f"shards={total}, deterministic={deterministic}, compiled={compiled},"
            f" bucket_mb={bucket_mb}",
            "versions": f"torch {torch.__version__}, files of lincoln_fn with hash {digest()[:8]}",
        }
        agreement.check_same("mean", group, described)
    check_divisible("mean", "shards", total, group)
    if not deterministic and total != group.size:
        raise unexpected("mean", "shards=None, since deterministic is False", total)
    divided = Shards(group.duplicate(), total, deterministic)
    size = int(bucket_mb * 2**20)
    return bare(
        Reduce,
        partial(_bind, group, divided, size, compiled),
        group.totals,
        exact=deterministic,
        shard=(group.rank, group.size),
        first_error=partial(agreement.first_error, group),
        bind_shards=partial(_bind_shards, group, divided, size),
        bind_recorded=partial(_bind, group, divided, size, compiled, records=True),
    )


def _bind(
    group: Group, shards: Shards, size: int, compiled: bool, net: Layer, loss: Loss, name: str,
    records: bool = False,
) -> Compute:  # fmt: skip
    check_sharding(net)
    if compiled:
        compute = _bind_shards(group, shards, size, net, loss, name, "since compiled is True")
        return partial(compute, compiler.compile(partial(run_pass, net, loss)))
    nets, meeting = dict.fromkeys(shards.own, net), None
    if synchronised.is_synchronised(net):
        meeting = synchronised.Meeting(group, shards)
        nets = {shard: synchronised.synchronise(net, meeting, shard) for shard in shards.own}
    meets = synchronised.communicates(net)
    small = None if meets or not records else recorded(partial(run_pass, net, loss))
    setup = DataParallelSetup(shards, loss, size, group, nets, meeting, meets, of_small=small)
    return partial(_compute, setup, name)


def _bind_shards(
    group: Group, shards: Shards, size: int, net: Layer, loss: Loss, name: str,
    why: str = "in metagradient",
) -> ComputeShards:  # fmt: skip
    if synchronised.communicates(net):
        raise unexpected("mean", f"layers that do not communicate, {why}", net)
    nets = dict.fromkeys(shards.own, net)
    setup = DataParallelSetup(shards, loss, size, group, nets, None, communicates=False)
    return partial(_compute_shards, setup, name)


def _compute_shards(
    setup: DataParallelSetup, name: str, of_shard: OfShard, params: Params, batch: Batch,
    step: Tensor,
) -> tuple[Tensor, Params, Params]:  # fmt: skip
    return _compute(attrs.evolve(setup, of_shard=of_shard), name, params, batch, step)


def _compute(
    setup: DataParallelSetup, name: str, params: Params, batch: Batch, step: Tensor
) -> tuple[Tensor, Params, Params]:
    rows = agreement.rows_of_all("mean", setup.group, params, batch, step, name)
    bounds = bounds_of("mean", setup.shards, rows)
    if setup.of_small and sum(leaf.nbytes for leaf in tree.leaves(params)) <= setup.bucket_size:
        setup = attrs.evolve(setup, of_shard=setup.of_small)
    with ThreadPoolExecutor(1) as beside:
        passes = Passes(setup, params, batch, bounds, beside)
        error = passes.run()
        dparams = passes.buckets.results()
        if passes.buckets.has_failed():
            error, _ = agreement.first_error(setup.group, error)
            if error is not None:
                raise error
        return passes.value(), passes.advance(), dparams
