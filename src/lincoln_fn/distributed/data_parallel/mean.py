"""Data parallelism: each process computes the gradient of some examples, and all add them up.

A batch of N examples is divided into a fixed number of logical shards. Shard s computes the sum of
its losses, S_s, and its count, n_s (`losses/common/sums.py`):

    value = sum_s S_s / sum_s n_s
    dparams = sum_s dS_s / sum_s n_s

A process computes the shards that are its own, one after the other. The sums are taken in the
fixed tree of `shards.py`. Gradients are sent as soon as they are known.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import attrs
import torch
from torch import Tensor

from lincoln_fn import compiler, core
from lincoln_fn.compiler.internal import digest
from lincoln_fn.core import Arrays, Cache, Layer, Params, Positive, PositiveInt, tree, unexpected
from lincoln_fn.distributed.data_parallel import agreement, sharded_params, synchronised
from lincoln_fn.distributed.data_parallel.sharded_step import ShardedStep, StepSetup
from lincoln_fn.distributed.data_parallel.shards import Shards, bounds_of, drawing_for_all
from lincoln_fn.distributed.group import Group, check_divisible
from lincoln_fn.distributed.lost import LostProcessError
from lincoln_fn.losses.internal import Loss, sum_of
from lincoln_fn.recording import recorded
from lincoln_fn.training import Batch, Compute, ComputeShards, OfShard, Reduce
from lincoln_fn.walk import forward_to_train
from lincoln_fn.walk import internal as walks

Put = Callable[[int, Tensor], None]


@attrs.frozen(eq=False)
class DataParallelSetup(StepSetup):
    """What stays the same in all steps."""

    group: Group  # for what is sent before and after the passes; shards.group is for gradients
    nets: Mapping[int, Layer]  # by shard of this process; they differ if layers of theirs meet
    meeting: synchronised.Meeting | None
    communicates: bool  # whether a layer does
    # what a shard computes at once, such as `run_pass`; None sends gradients as the walk goes
    of_shard: OfShard | None = None
    # likewise, for params whose gradients are sent at once anyway
    of_small: OfShard | None = None


def run_pass(net: Layer, loss: Loss, params: Params, batch: Batch) -> tuple[Tensor, Params, Params]:
    """Compute a shard's loss, advanced params and gradient, as a pure function to compile."""
    x, target = batch
    prediction, cache = net.forward(params, x)
    part = sum_of(loss, prediction, target, len(tree.leaves(x)[0]))
    return part.numbers, net.advance(params, cache), net.grads(params, cache, part.g)


class Passes(ShardedStep):
    """The passes of one step: `run` it once, then read the results."""

    def __init__(
        self, setup: DataParallelSetup, params: Params, batch: Batch, bounds: list[int],
        beside: Executor,
    ) -> None:  # fmt: skip
        super().__init__(
            setup, params, batch, bounds, beside, [*sharded_params.find_sharded_leaves(params)]
        )
        self._setup = setup
        dtypes = (leaf.dtype for leaf in tree.leaves((params, batch[0])))
        self.dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), None)
        self.is_still = next(iter(setup.nets.values())).advance is core.unchanged

    def run(self) -> Exception | None:
        """Compute the shards of this process, and return the error in them, if there is one."""
        setup = self._setup
        try:
            self._run()
        except LostProcessError:
            raise
        except Exception as error:
            # Within a pass that communicates, the others wait for what does not come.
            if setup.group.size == 1 or setup.communicates:
                raise
            self.fail()  # the others go on, and learn of the error at the end of the step
            return error
        return None

    def _run(self) -> None:
        own, meeting = self.shards.own, self._setup.meeting
        if meeting is None:
            for shard in own:
                self._pass(shard)
            return
        if not all(map(self.size, range(self.shards.total))):
            expected = f"an example in each of {self.shards.total} shards"
            raise unexpected("sync_batch_norm", expected, f"{self.bounds[-1]} in all")
        with ThreadPoolExecutor(len(own)) as threads:
            meeting.run(threads, self._pass, own)

    def _pass(self, shard: int) -> None:
        setup, net, put = self._setup, self._setup.nets[shard], partial(self.put, shard)
        if not self.size(shard):
            if any(sharded_params.find_sharded_leaves(self.params)):
                self._walk_without_examples(net)  # with the processes that need its slices
            self.put_zeros(shard)
            return
        x, target = self.rows(shard, self.batch)
        drawing = self.drawing(shard, self.params)
        if setup.of_shard is not None:
            numbers, advanced, dparams = setup.of_shard(drawing, (x, target))
            self.advanced[shard] = drawing_for_all(advanced)
            self.put_loss(shard, numbers)
            for i, gradient in enumerate(tree.leaves(dparams)):
                put(i, gradient)
            return
        with torch.no_grad():  # a setting of each thread
            prediction, cache = forward_to_train(net, drawing, x)
            part = sum_of(setup.loss, prediction, target, self.size(shard))
            del prediction
            if not self.is_still:
                self.advanced[shard] = drawing_for_all(net.advance(drawing, cache))
            self.put_loss(shard, part.numbers)
            post_gradients(net, drawing, cache, part.g, put)

    def _walk_without_examples(self, net: Layer) -> None:
        """Walk there and back with zeros for an example, whose gradients are not used."""
        x, target = tree.map(lambda array: array.new_zeros((1, *array.shape[1:])), self.batch)
        with torch.no_grad():
            prediction, cache = net.forward(self.params, x)
            g = tree.map(torch.zeros_like, sum_of(self._setup.loss, prediction, target, 1).g)
            post_gradients(net, self.params, cache, g, lambda i, gradient: None)


def post_gradients(net: Layer, params: Params, cache: Cache, g: Arrays, put: Put) -> None:
    """Walk back through a network, and pass each gradient to `put` as soon as it is complete."""
    leaves, posted, is_sharded = tree.leaves(params), set(), sharded_params.is_fully_sharded
    positions: dict[int, int | None] = {}
    for i, leaf in enumerate(leaves):  # a leaf that occurs twice has no single position
        positions[id(leaf)] = None if id(leaf) in positions else i

    def post(params: Params, dparams: Params) -> None:
        pairs = zip(tree.leaves(params), tree.leaves(dparams), strict=True)
        for leaf, gradient in pairs:
            i = positions.get(id(leaf))
            if i is not None and i not in posted:
                posted.add(i)
                put(i, gradient)

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: walks.Wants
    ) -> tuple[Arrays, Params]:
        dx, dparams = walks.BACKWARD.visit(layer, path, params, cache, g, wants)
        if wants.dparams:
            post(params, dparams)
        return dx, dparams

    def gather(made: walks.Composition, params: Params, records: Params) -> Params:
        if is_sharded(made):
            post(params, records)  # the gradients of the whole parameters; slices are added up
            return params
        return made.gathered(params, records)

    _, dparams = walks.walk_back(
        visit, net, params, cache, g, walks.DPARAMS, skip=walks.untrained, gather=gather,
        add=walks.sum_uses,
        # whether a part's gradient is complete when it is visited, once
        enters=lambda made: made.gather is walks.gather_entries or is_sharded(made),
    )  # fmt: skip
    for i, gradient in enumerate(tree.leaves(dparams)):
        if i not in posted:
            put(i, gradient)


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
            takes less time for small networks. Gradients are then sent after the pass.
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
    return core.bare(
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
    sharded_params.check_sharding(net)
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
    return lambda of_shard, *given: _compute(attrs.evolve(setup, of_shard=of_shard), name, *given)


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
        dparams = passes.dparams()
        if passes.has_failed():
            error, _ = agreement.first_error(setup.group, error)
            if error is not None:
                raise error
        return passes.value(), passes.advance(), dparams
