"""Forward and backward of one step over this process's shards; gradients are sent at once."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree, unchanged, unexpected
from lincoln_fn.distributed.data_parallel.fully_sharded import is_fully_sharded
from lincoln_fn.distributed.data_parallel.sharded_params import find_sharded_leaves
from lincoln_fn.distributed.data_parallel.sharded_step import ShardedStep, StepSetup
from lincoln_fn.distributed.data_parallel.shards import drawing_for_all
from lincoln_fn.distributed.data_parallel.synchronised import Meeting
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.lost import LostProcessError
from lincoln_fn.losses.internal import Loss, sum_of
from lincoln_fn.training import Batch, OfShard
from lincoln_fn.walk import Composition, forward_to_train
from lincoln_fn.walk import internal as walks

Put = Callable[[int, Tensor], None]


@attrs.frozen(eq=False)
class DataParallelSetup(StepSetup):
    """What stays the same in all steps."""

    group: Group  # for what is sent before and after the passes; shards.group is for gradients
    nets: Mapping[int, Layer]  # by shard of this process; they differ if layers of theirs meet
    meeting: Meeting | None
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
        super().__init__(setup, params, batch, bounds, beside, [*find_sharded_leaves(params)])
        self._setup = setup
        dtypes = (leaf.dtype for leaf in tree.leaves((params, batch[0])))
        self.dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), None)
        self.is_still = next(iter(setup.nets.values())).advance is unchanged

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
        """Compute the shards, one after the other, or together if they meet."""
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
        setup, net, put = self._setup, self._setup.nets[shard], partial(self.buckets.put, shard)
        if not self.size(shard):
            if any(find_sharded_leaves(self.params)):
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
    leaves, posted = tree.leaves(params), set()
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

    def gather(made: Composition, params: Params, records: Params) -> Params:
        if is_fully_sharded(made):
            post(params, records)  # the gradients of the whole parameters; slices are added up
            return params
        return made.gathered(params, records)

    _, dparams = walks.walk_back(
        visit, net, params, cache, g, walks.DPARAMS, skip=walks.untrained, gather=gather,
        add=walks.sum_uses,
        # whether a part's gradient is complete when it is visited, once
        enters=lambda made: made.gather is walks.gather_entries or is_fully_sharded(made),
    )  # fmt: skip
    for i, gradient in enumerate(tree.leaves(dparams)):
        if i not in posted:
            put(i, gradient)
