"""The adjoint of one training step: from the bars of the new state to those of the old one.

Derivation. A step computes the gradient d of the loss L and lets the optimizer use it:

    d = (dL)/(dp)
    (p, s) <- update(p, d, s)

The optimizer's adjoint turns the bars of the new p and s into those of p, d and s. d depends on p,
on the batch's x, and on the weight w_n of example n, in L = sum_n w_n L_n. The Hessian is
symmetric, so each of these is a derivative along bar d, at t = 0:

    bar p += H bar d = d/(dt) (dL)/(dp) (p + t bar d)
    bar x = d/(dt) (dL)/(dx) (p + t bar d)
    bar w_n = (dL_n)/(dp) bar d = d/(dt) L_n (p + t bar d) = (dL_n)/(dy_n) y_n'

One forward and one backward pass with dual tensors, as in `lincoln_fn.curvature`, compute them all.

Where several processes take a step together, each derivative along bar d is a sum over logical
shards, divided by a count, as the gradient is (`distributed/data_parallel/mean.py`). What belongs
to an example is a vector over the whole batch, with zeros for the examples of other shards.

Derivation for running statistics. In training, batch norm moves its running statistics s by those
of the batch, with the momentum w; M is the number of values in a channel:

    mean <- (1 - w) mean + w sum x / M
    var <- (1 - w) var + w sum (x - mean_x)^2 / (M - 1)

So the bars of the new statistics add to that of x, and then become those of the old ones:

    bar x += w (bar mean / M + 2 (x - mean_x) bar var / (M - 1))
    bar mean <- (1 - w) bar mean
    bar var <- (1 - w) bar var

Instance norm takes the mean over the N examples of each example's own statistics, so both terms are
divided by N. After training, y = (x - mean) rstd w + b with rstd = 1 / sqrt(var + epsilon), so

    bar mean = -sum dx
    bar var = -1/2 sum dx hat x rstd

Source: Maclaurin, Duvenaud and Adams, "Gradient-based Hyperparameter Optimization through
Reversible Learning", ICML 2015; Engstrom and others, "Optimizing ML Training with Metagradient
Descent", 2025.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cached_property, partial
from typing import TypeAlias

import attrs
import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import combine
from lincoln_fn.core import Arrays, Cache, Layer, Params, made_by, record, tree, unexpected
from lincoln_fn.curvature import internal as duals
from lincoln_fn.fastpath import fast
from lincoln_fn.layers import batch_norm, instance_norm
from lincoln_fn.layers.common.normalisation import Running, moved
from lincoln_fn.losses.internal import Loss, PartSum, sum_of, unchecked, unweighted
from lincoln_fn.optim import Optimizer, OptimizerState
from lincoln_fn.training import Batch, Compute, ComputeShards, Reduce, TrainState
from lincoln_fn.walk.internal import ALL, Wants

# By the path of the layer: the bars of its mean and of its variance.
Statistics: TypeAlias = dict[str, tuple[Tensor, Tensor]]


def loss_after(
    net: Layer, loss: Loss, test: Batch, params: Params
) -> tuple[Tensor, Params, Statistics]:
    """Compute the loss of test examples, its gradient, and the bars of running statistics."""
    x, target = test
    after, loss = combine.inference(net), unweighted(loss) or loss
    prediction, cache = after.forward(params, x)
    value = loss.forward(prediction, target)[0]
    g, statistics = duals.loss_gradient(loss, prediction, target), Statistics()
    walk = duals.walk_of(partial(_leaf, statistics))
    return value, walk(after, params, cache, g, ALL)[1], statistics


def _leaf(
    statistics: Statistics, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays,
    wants: Wants,
) -> tuple[Arrays, Params]:  # fmt: skip
    """Visit a layer, and add the bars of the statistics that it has normalised by."""
    dx, dparams = layer.backward(params, cache, g)
    running = getattr(params, "running", None)
    if isinstance(running, Running) and made_by(layer, combine.inference):
        shared = [axis for axis in range(dx.ndim) if axis != cache.axis]
        of_var = -0.5 * (dx * cache.x_hat).sum(shared) * cache.rstd
        before = statistics.get(path, (0, 0))
        statistics[path] = (-dx.sum(shared) + before[0], of_var + before[1])
    return dx, dparams


def of_training(
    params: Params, cache: Cache, bars: tuple[Tensor, Tensor]
) -> tuple[Tensor, tuple[Tensor, Tensor]] | None:
    """Compute what is added to bar x, and the bars of the old statistics; None if there is none."""
    if not isinstance(cache, batch_norm.Cache | instance_norm.Cache) or not cache.x_hat.numel():
        return None
    of_batch = isinstance(cache, batch_norm.Cache)
    axis = 1 if of_batch else cache.mean.ndim - 1
    places = cache.x_hat.ndim - 1 - axis
    group = cache.x_hat.shape[axis + 1 :].numel() * (len(cache.x_hat) if of_batch else 1)
    groups = 1 if of_batch or not axis else len(cache.x_hat)
    one, zero = torch.ones_like(bars[0]), torch.zeros_like(bars[0])
    # How much of the old statistics stays is what moves 1 towards 0.
    kept = moved(Running(one, one, params.running.num_batches), zero, zero, cache.momentum).mean
    w = 1 - kept
    mean_bar, var_bar = ((w * bar / groups).reshape(*bar.shape, *(1,) * places) for bar in bars)
    centred = cache.x_hat / cache.rstd
    of_x = mean_bar / group + 2 * centred * var_bar / (group - 1)
    return of_x, (kept * bars[0], kept * bars[1])


# (loss, prediction, target) -> g
LossGradient: TypeAlias = Callable[[Loss, Arrays, Arrays], Arrays]


@record
class Bars:
    """The derivatives of one number in a state: mirrors of params and of the optimizer's state."""

    params: Params
    opt_state: OptimizerState
    statistics: Statistics


@record
class Found:
    """What one step's adjoint finds: the old state's bars, and the derivatives in the step's own.

    `examples` has one number for each example, `x` mirrors the batch's x; None if not asked for.
    """

    bars: Bars
    hyperparameters: Mapping[str, Tensor]
    examples: Float[Tensor, " N"] | None
    x: Arrays | None


# ((state, bars of the next one), batch) -> what the step's adjoint finds
Adjoint: TypeAlias = Callable[[tuple[TrainState, Bars], Batch], Found]


# Equal ones are compiled once.
@attrs.frozen(slots=False)
class StepAdjoint:
    """The adjoint of a step of `make_step`, and what it finds beside the bars."""

    net: Layer
    loss: Loss
    optimizer: Optimizer
    wants: frozenset[str]  # of examples and x, and of the hyperparameters

    @cached_property
    def fast(self) -> tuple[Layer, Loss]:
        """The faster network, and the loss without its check of predictions."""
        return fast(self.net), unchecked(self.loss)

    def __call__(self, given: tuple[TrainState, Bars], batch: Batch) -> Found:
        """Compute the bars of the state before the step from those of the state after it."""
        state, bars = given
        adjoint = self.optimizer.adjoint
        assert not isinstance(adjoint, str)  # as `metagradient` has checked
        dparams = self.gradient(state, batch)
        update = adjoint(state.params, dparams, state.opt_state, bars.params, bars.opt_state)
        along = self.along(state, update.grads, batch, bars.statistics)
        params = tree.map(torch.add, update.params, along.bars.params)
        return Found(
            Bars(params, update.state, along.bars.statistics),
            {name: of for name, of in update.hyperparameters.items() if name in self.wants},
            along.examples,
            along.x,
        )

    def gradient(self, state: TrainState, batch: Batch) -> Params:
        """Compute d once more."""
        (net, loss), (x, target) = self.fast, batch
        prediction, cache = net.forward(state.params, x)
        return net.grads(state.params, cache, loss.backward(loss.forward(prediction, target)[1]))

    def along(
        self, state: TrainState, direction: Params, batch: Batch, statistics: Statistics
    ) -> Found:
        """Compute what depends on d, along a direction in the params: its part of the bars."""
        return self.dual_pass(duals.loss_gradient, state.params, direction, batch, statistics)

    def dual_pass(
        self, gradient_of: LossGradient, params: Params, direction: Params, batch: Batch,
        statistics: Statistics,
    ) -> Found:  # fmt: skip
        """Compute it by one pass, forward and backward, with dual tensors."""
        (x, target), statistics = batch, dict(statistics)
        with duals.forward_mode():
            # Running statistics are those of the formulas' caches.
            net = self.net if statistics else duals.fast_for_forward_mode(self.net)
            at = duals.with_tangents(params, direction)
            prediction, cache = net.forward(at, x)
            g = gradient_of(self.loss, prediction, target)
            leaf = partial(_training_leaf, statistics) if statistics else duals.tangents_leaf
            walk = duals.walk_of(leaf)
            wants = Wants(dx="x" in self.wants, dparams=True)
            dx, product = walk(net, at, cache, g, wants)
            of_x = duals.tangents_of(dx) if wants.dx else None
            y, g, tangents = *map(duals.values_of, (prediction, g)), duals.tangents_of(prediction)
        examples, loss = None, unweighted(self.loss)
        if "examples" in self.wants:  # dL_n/dy_n y_n', where the example's own weight is 1
            g = g if loss is None else gradient_of(loss, y, target[0])
            each = tree.map(lambda a, b: (a * b).flatten(1).sum(1), g, tangents)
            examples = torch.stack(tree.leaves(each)).sum(0)
        return Found(Bars(product, (), statistics), {}, examples, of_x)


def _training_leaf(
    statistics: Statistics, layer: Layer, path: str, params: Params, cache: Cache, g: Arrays,
    wants: Wants,
) -> tuple[Arrays, Params]:  # fmt: skip
    """Visit a layer, and add to its dx what its running statistics say of x."""
    # The bars of the statistics are to the tangents what bar d's own part is: both are derivatives
    # of the same number, and the walk is linear in them.
    dx, dparams = duals.tangents_leaf(layer, path, params, cache, g, wants)
    bars = statistics.get(path)
    adjoints = None if bars is None else of_training(params, duals.values_of(cache), bars)
    if adjoints is not None:
        more, statistics[path] = adjoints
        if wants.dx:
            dx = duals.with_tangents(duals.values_of(dx), duals.tangents_of(dx) + more)
    return dx, dparams


@attrs.frozen(slots=False, eq=False)
class SharedAdjoint(StepAdjoint):
    """The adjoint of a step with `reduce`. Each process gives it the whole batch."""

    reduce: Reduce
    of_gradient: Compute
    of_shards: ComputeShards

    @classmethod
    def of(cls, adjoint: StepAdjoint, reduce: Reduce, name: str) -> SharedAdjoint:
        """Share the adjoint of a step of this name."""
        if reduce.bind_shards is None:
            raise unexpected("metagradient", "a step of one process or of distributed.mean", name)
        of_gradient = reduce.bind(*adjoint.fast, name)
        of_shards = reduce.bind_shards(adjoint.net, adjoint.loss, name)
        fields = adjoint.net, adjoint.loss, adjoint.optimizer, adjoint.wants
        return cls(*fields, reduce, of_gradient, of_shards)

    def gradient(self, state: TrainState, batch: Batch) -> Params:
        """Compute d of the whole batch."""
        return self.of_gradient(state.params, self._own(batch), state.step)[2]

    def along(
        self, state: TrainState, direction: Params, batch: Batch, statistics: Statistics
    ) -> Found:
        """Add up what the shards compute."""
        x, target = batch
        rows = torch.arange(len(tree.leaves(x)[0]))
        like = (
            state.params,
            tree.leaves(state.params)[0].new_zeros(len(rows)) if "examples" in self.wants else None,
            tree.map(torch.zeros_like, x) if "x" in self.wants else None,
        )
        own = self._own((x, (target, rows)))
        of_shard = partial(self._shard, tree.leaves(direction))
        product, examples, of_x = self.of_shards(of_shard, like, own, state.step)[2]
        return Found(Bars(product, (), statistics), {}, examples, of_x)

    def _own(self, batch: Batch) -> Batch:
        """Take this process's part, as `data.batches` divides a batch."""
        count, (rank, size) = len(tree.leaves(batch)[0]), self.reduce.shard
        rows = slice(count * rank // size, count * (rank + 1) // size)
        return tree.map(lambda array: array[rows], batch)

    def _shard(
        self, direction: list[Tensor], like: Params, batch: Batch
    ) -> tuple[Tensor, Params, Params]:
        """Compute a shard's loss, and what it adds to `like`, whose keys draw for its examples."""
        (params, *zeros), (x, (target, rows)) = like, batch
        sums = list[PartSum]()

        def gradient_of(loss: Loss, prediction: Arrays, target: Arrays) -> Arrays:
            sums.append(sum_of(loss, prediction, target, len(rows)))
            return sums[-1].g

        along = tree.unflatten(params, direction)
        own = self.dual_pass(gradient_of, params, along, (x, target), {})
        of_rows = tree.map(
            lambda zero, value: zero.index_copy(0, rows, value), zeros, [own.examples, own.x]
        )
        return sums[0].numbers, like, (own.bars.params, *of_rows)
