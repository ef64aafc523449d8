"""Forward and backward of one step, over the shards of this process."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Layer, LayerError, Params, tree, unchanged
from lincoln_fn.distributed.data_parallel.buckets import Buckets
from lincoln_fn.distributed.data_parallel.posting import post_gradients
from lincoln_fn.distributed.data_parallel.shards import (
    Shards,
    drawing_for,
    drawing_for_all,
    rows_within,
)
from lincoln_fn.distributed.data_parallel.states import average_states
from lincoln_fn.distributed.data_parallel.sums import LossSums
from lincoln_fn.distributed.data_parallel.synchronised import Meeting
from lincoln_fn.distributed.group import Group
from lincoln_fn.distributed.lost import LostProcessError
from lincoln_fn.distributed.sharding.sharded_params import find_sharded_leaves
from lincoln_fn.losses import Loss
from lincoln_fn.losses.internal import sum_of
from lincoln_fn.training import Batch, OfShard
from lincoln_fn.walk import forward_to_train


@attrs.frozen(eq=False)
class DataParallelSetup:
    """What stays the same in all steps."""

    group: Group  # for what is sent before and after the passes; shards.group is for gradients
    shards: Shards
    bucket_size: int
    nets: Mapping[int, Layer]  # by shard of this process; they differ if layers of theirs meet
    loss: Loss
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


class Passes:
    """The passes of one step: `run` it once, then read the results."""

    def __init__(
        self,
        setup: DataParallelSetup,
        params: Params,
        batch: Batch,
        bounds: list[int],
        beside: Executor,
    ) -> None:
        self._setup, self._params, self._bounds = setup, params, bounds
        self._batch = batch
        self._advanced: dict[int, Params] = {}
        self._losses = LossSums(setup.shards, setup.loss, beside)
        self._buckets = Buckets(
            setup.shards, params, setup.bucket_size, beside, self._losses.count,
            [*find_sharded_leaves(params)],
        )  # fmt: skip

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
            self._losses.fail()  # the others go on, and learn of the error at the end of the step
            self._buckets.fail()
            return error
        return None

    def _run(self) -> None:
        """Compute the shards, one after the other, or together if they meet."""
        own, meeting = self._setup.shards.own, self._setup.meeting
        if meeting is None:
            for shard in own:
                self._pass(shard)
            return
        if min(b - a for a, b in zip(self._bounds, self._bounds[1:], strict=False)) == 0:
            problem = f"expected an example in each of {self._setup.shards.total} shards"
            raise LayerError("sync_batch_norm", f"{problem}, got {self._bounds[-1]} in all")
        with ThreadPoolExecutor(len(own)) as threads:
            meeting.run(threads, self._pass, own)

    def value(self) -> Tensor:
        """Return the loss, followed by the values of a weighted loss's parts."""
        dtypes = (leaf.dtype for leaf in tree.leaves((self._params, self._batch[0])))
        dtype = next((dtype for dtype in dtypes if dtype.is_floating_point), None)
        return self._losses.value(dtype)

    def has_failed(self) -> bool:
        """Return, after `dparams`, whether the passes of a process have."""
        return self._buckets.has_failed()

    def dparams(self) -> Params:
        """Wait for the gradient."""
        return self._buckets.results()

    def advance(self) -> Params:
        """Return the params with the next states."""
        if next(iter(self._setup.nets.values())).advance is unchanged:
            return self._params
        return average_states(self._setup.shards, self._params, self._advanced, self._bounds)

    def _pass(self, shard: int) -> None:
        """Compute forward and backward of a shard."""
        net, params, put = self._setup.nets[shard], self._params, partial(self._buckets.put, shard)
        first, end = self._bounds[shard], self._bounds[shard + 1]
        if first == end:
            self._losses.put_zeros(shard)
            if any(find_sharded_leaves(params)):
                self._walk_without_examples(net)  # with the processes that need its slices
            self._buckets.put_zeros(shard)
            return
        begin = self._bounds[self._setup.shards.own.start]
        x, target = tree.map(partial(rows_within, first - begin, end - begin), self._batch)
        drawing = drawing_for(params, first, end - first, self._bounds[-1])
        if self._setup.of_shard is not None:
            numbers, advanced, dparams = self._setup.of_shard(drawing, (x, target))
            self._advanced[shard] = drawing_for_all(advanced)
            self._losses.put(shard, numbers)
            for i, gradient in enumerate(tree.leaves(dparams)):
                put(i, gradient)
            return
        with torch.no_grad():  # a setting of each thread
            prediction, cache = forward_to_train(net, drawing, x)
            part = sum_of(self._setup.loss, prediction, target, end - first)
            del prediction
            if net.advance is not unchanged:
                self._advanced[shard] = drawing_for_all(net.advance(drawing, cache))
            self._losses.put(shard, part.numbers)
            post_gradients(net, drawing, cache, part.g, put)

    def _walk_without_examples(self, net: Layer) -> None:
        """Walk there and back with zeros for an example, whose gradients are not used."""
        x, target = tree.map(lambda array: array.new_zeros((1, *array.shape[1:])), self._batch)
        with torch.no_grad():
            prediction, cache = net.forward(self._params, x)
            g = tree.map(torch.zeros_like, sum_of(self._setup.loss, prediction, target, 1).g)
            post_gradients(net, self._params, cache, g, lambda i, gradient: None)
