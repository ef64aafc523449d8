"""Two protocols: how a step computes what its optimizer is given, alone or with other processes.

The gradient protocol:

    state          = gradient.init(net, params)
    dparams, state = gradient.compute(net, params, cache, g, state, key)

    net      is the network, of faster functions or not; each part gets all examples
    params   is what `forward` was given
    cache    is what `forward` returned beside y, and is the caller's own
    g        is dL/dy
    state    is what the last step returned, at first that of `init`; () if nothing is kept
    key      is another one in each step: for noise, and for random vectors
    dparams  mirrors params, as `net.grads` returns it

Without a gradient of its own, a step gives the optimizer `net.grads(params, cache, g)`.

The reduce protocol, of what several processes compute together:

    compute                  = reduce.bind(net, loss, name)
    value, params, dparams   = compute(params, batch, step)
    totals                   = reduce.totals(numbers)
    error, place             = reduce.first_error(error, place)
    compute                  = reduce.bind_shards(net, loss, name)
    value, _, total          = compute(of_shard, params, batch, step)

    net      is the network, or `lf.fast` of it
    loss     is the step's loss
    name     is the code of the step, which all processes must share
    batch    is (x, target), this process's part of the batch
    step     is the number of steps taken
    value    is the loss of the whole batch, followed by the values of a weighted loss's parts
    params   is `net.advance(params, cache)`, for the whole batch
    dparams  is the gradient of the whole batch's loss
    error    is this process's error, or None; then the one of the lowest place in all processes
    numbers  is a list of numbers, and `totals` their sums over all processes
    of_shard is a function (params, batch) -> (numbers, params, part) for a part of a batch, where
             numbers are those of `losses.common.sums.PartSum`, and part mirrors the params
    total    is the sum of the parts, divided by the count of the whole batch's loss

Without a reduce, a step computes them from its own batch. `lf.distributed.mean` makes one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Literal, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Key, Layer, Made, Params
from lincoln_fn.losses import Loss
from lincoln_fn.training.data import Batch

Reduction: TypeAlias = Literal["mean", "sum"]
# Any: each gradient keeps what it needs.
GradientState: TypeAlias = Any
ComputeGradient: TypeAlias = Callable[
    [Layer, Params, Cache, Arrays, GradientState, Key], tuple[Params, GradientState]
]
Compute: TypeAlias = Callable[[Params, Batch, Tensor], tuple[Tensor, Params, Params]]
OfShard: TypeAlias = Callable[[Params, Batch], tuple[Tensor, Params, Params]]
ComputeShards: TypeAlias = Callable[[OfShard, Params, Batch, Tensor], tuple[Tensor, Params, Params]]
FirstError: TypeAlias = Callable[[Exception | None, int], tuple[Exception | None, int]]


def no_state(net: Layer, params: Params) -> GradientState:
    """Initialise a gradient that keeps nothing."""
    return ()


@attrs.frozen(eq=False, repr=False)
class Gradient(Made):
    """A way to compute the gradient of a step, as the pure functions that make it.

    Args:
        name: the code that makes it; its repr.
        compute: (net, params, cache, g, state, key) -> (dparams, state).
        init: (net, params) -> state; the default keeps nothing.
        reduction: "mean" or "sum" if it depends on how the loss reduces; else None.
        by_example: whether it needs the gradient of each example's own loss. Then a step refuses a
            loss in which an example moves the gradients of others.

    Example:
        >>> def half(net, params, cache, g, state, key):
        ...     return lf.tree.map(lambda dp: dp / 2, net.grads(params, cache, g)), state
        >>> net, x = lf.dense(1), torch.ones(2, 3)
        >>> optimizer, gradient = lf.optim.sgd(0.1), Gradient("half()", half)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer, gradient=gradient)
        >>> state, value = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, torch.ones(2, 1)))
    """

    name: str
    compute: ComputeGradient
    init: Callable[[Layer, Params], GradientState] = no_state
    reduction: Reduction | None = None
    by_example: bool = False


def _of_one(error: Exception | None, place: int) -> tuple[Exception | None, int]:
    return error, place


@attrs.frozen(eq=False, repr=False)
class Reduce(Made):
    """A way to compute a step's gradient together with other processes, as the module says.

    Args:
        exact: whether the bits must not depend on how parameters are divided among processes. Then
            the optimizer computes by its formula: a kernel rounds the last numbers of a tensor
            differently.
        shard: (rank, size): which part of each batch this process has, as `data.batches` takes it.
        bind_shards: None if it computes no other function than the gradient.
        bind_recorded: as `bind`, for a step that is recorded; None if nothing of it is.

    Example:
        >>> lf.distributed.mean(lf.distributed.alone())
        mean(group)
    """

    name: str
    bind: Callable[[Layer, Loss, str], Compute]
    totals: Callable[[Sequence[float]], list[float]]
    exact: bool = True
    shard: tuple[int, int] = (0, 1)
    bind_shards: Callable[[Layer, Loss, str], ComputeShards] | None = None
    bind_recorded: Callable[[Layer, Loss, str], Compute] | None = None
    first_error: FirstError = _of_one
