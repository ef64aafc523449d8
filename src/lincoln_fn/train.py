"""Training: a step is a pure function of a state and a batch, and a loop threads the state.

    state, value = step(state, (x, target))

One step is forward, loss, backward, advance and update, in that order; nothing is kept elsewhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TypeAlias, final

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn._batches import check_batch, check_example, check_walkable
from lincoln_fn._kinds import check_kinds, wrong_kind
from lincoln_fn._spent import check_unspent, spend_replaced
from lincoln_fn._step_errors import check_prediction, non_finite
from lincoln_fn.data import Batch, is_used_once
from lincoln_fn.fastpath import fast as fast_layer
from lincoln_fn.fastpath.losses import fast_loss
from lincoln_fn.fastpath.optimizers import fast_optimizer
from lincoln_fn.fastpath.sgd import plain_rate, sgd_walker
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Layer, Params
from lincoln_fn.losses._reduction import formula_of
from lincoln_fn.losses.loss import Loss
from lincoln_fn.optim import Optimizer, OptimizerState
from lincoln_fn.optim.leaves import check_state
from lincoln_fn.record import record
from lincoln_fn.shapes import LayerError, NonFiniteError
from lincoln_fn.walk.parts import owned
from lincoln_fn.walk.training import gradients, records


@record
class TrainState:
    """All that a training run carries from one step to the next.

    `key` belongs to the run and stays the same: what is random in a step, or the order of the data,
    is drawn from `key.fold_in(step)` and the like. `step` counts the steps taken.
    """

    params: Params
    opt_state: OptimizerState
    key: Key
    step: Tensor


@record
class StepRecord:
    """What one step of `train` tells.

    `step` is its number, from 1, `loss` the step's value, `examples` how many there were in its
    batch (None if it is no batch of tensors), `scores` metrics by name, which `streams.evaluated`
    adds now and then.
    """

    step: int
    loss: float
    examples: int | None = None
    scores: Mapping[str, float] = attrs.field(factory=dict)


StepFunction: TypeAlias = Callable[[TrainState, Batch], tuple[TrainState, Tensor]]


def init_state(net: Layer, optimizer: Optimizer, key: Key, x: Arrays) -> TrainState:
    """Make the state before the first step.

    Args:
        net: the network.
        optimizer: the optimizer.
        key: initial parameters are drawn from a half of it; the other is the run's own key.
        x: an example input, of which only shape, dtype and device count.

    Returns:
        The state, with step 0.

    Raises:
        LayerError: if an argument is not of its kind, or x does not fit the network.

    Example:
        >>> import lincoln_fn as lf
        >>> init_state(lf.dense(2), lf.optim.sgd(0.1), lf.Key(0), torch.zeros(1, 3)).params
        Params(weight=float32[3, 2], bias=float32[2])
    """
    check_kinds(
        "init_state",
        "(net, optimizer, key, x)",
        net=(net, Layer), optimizer=(optimizer, Optimizer), key=(key, Key),
    )  # fmt: skip
    check_example("init_state", x)
    init_key, run_key = key.near(tree.leaves(x)[0]).split()
    params = fast_layer(net).init(init_key, x)  # the same numbers, in the faster layout
    step = torch.zeros((), dtype=torch.int64, device=run_key.bits.device)
    return TrainState(params, optimizer.init(params), run_key, step)


@final
@attrs.frozen(eq=False, repr=False)
class Step:
    """A training step; made by `make_step`.

    Calling it checks the batch and the loss. `pure` is the bare step, for tracing; `run` is what a
    call runs: the bare step, one that writes over the state if `donate` allows it, or a compiled
    one.
    """

    net: Layer
    loss: Loss
    optimizer: Optimizer
    donate: bool
    pure: StepFunction
    run: StepFunction
    # What is checked at step 0, where it has to be: that the loss is for such predictions.
    check_first: Callable[[Params, Batch], None] | None = None

    def __repr__(self) -> str:
        return f"make_step({self.net}, {self.loss}, {self.optimizer})"

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step, and raise where `make_step` says."""
        if not isinstance(batch, tuple | list) or len(batch) != 2:
            if isinstance(batch, TrainState):
                raise wrong_kind("step", "state", state, "TrainState", "(state, (x, target))")
            check_batch("step", batch)
        # An x that requires a gradient would make autograd record the step, and every one after.
        # Set by hand, which a small step notices beside torch.no_grad().
        recorded = torch.is_grad_enabled()
        torch._C._set_grad_enabled(False)
        try:
            if self.check_first is not None and not int(state.step):
                self.check_first(state.params, (batch[0], batch[1]))
            new_state, value = self.run(state, (batch[0], batch[1]))
        except Exception as error:
            check_kinds("step", state=(state, TrainState))
            check_unspent(state)
            if isinstance(error, LayerError):
                self.net.forward(state.params, batch[0])  # names the place as the user has it
            raise
        finally:
            torch._C._set_grad_enabled(recorded)
        if value.ndim:
            mend = "use reduction='mean' or 'sum'"
            raise LayerError(
                self.loss.name, f"expected one number to descend, got {tuple(value.shape)}; {mend}"
            )
        if not math.isfinite(value.item()):
            raise non_finite(self.net, self.loss, state.params, int(state.step) + 1, batch[0])
        return new_state, value


def make_step(
    net: Layer, loss: Loss, optimizer: Optimizer, *, donate: bool = False, fast: bool = True
) -> Step:
    """Make the training step of a network: step(state, (x, target)) -> (state, value).

    Args:
        net: the network.
        loss: its loss, with reduction mean or sum.
        optimizer: moves the parameters.
        donate: whether a step may write the new state over the one it is given, which saves time
            and memory in large networks. Then the tensors written over are empty afterwards, so
            that a state used twice is an error; whoever keeps a state keeps a copy. No tensor may
            stand in two places of the state, and other trees must not need its numbers.
        fast: whether `lf.fast(net)` takes the steps, which computes the same in less time.

    Returns:
        The step, a pure function of what is left to it. It raises `LayerError` for a batch that
        does not fit and, at step 0, where the loss is on probabilities, or on their logarithms, and
        the net gives something else. It raises `NonFiniteError`, naming the step
        and the first layer whose output is not finite, for a loss that is `nan` or infinite. In
        each case there is no new state, and the old one is as it was.

    Raises:
        LayerError: if an argument is not of its kind.

    Example:
        >>> import lincoln_fn as lf
        >>> net, optimizer, x = lf.dense(1), lf.optim.sgd(0.1), torch.ones(4, 3)
        >>> step = make_step(net, lf.losses.sigmoid_cross_entropy(), optimizer)
        >>> state, value = step(init_state(net, optimizer, lf.Key(0), x), (x, torch.ones(4)))
        >>> state.step
        tensor(1)
    """
    check_kinds(
        "make_step",
        "(net, loss, optimizer)",
        net=(net, Layer), loss=(loss, Loss), optimizer=(optimizer, Optimizer),
    )  # fmt: skip
    layer, its_loss, update = net, loss, optimizer.update
    if fast:
        layer, its_loss = fast_layer(net), fast_loss(loss)
        update = fast_optimizer(optimizer).update
    lr = plain_rate(optimizer) if fast else None
    walkers = {} if lr is None else {given: sgd_walker(lr, donate=given) for given in (False, True)}

    def run(donate: bool, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        x, target = batch
        params = state.params
        prediction, cache = layer.forward(params, x)
        value, loss_cache = its_loss.forward(prediction, target)
        if donate and not (value.ndim == 0 and math.isfinite(value.item())):
            return state, value  # which is refused: nothing may be written yet
        g = its_loss.backward(loss_cache)
        advanced = layer.advance(params, cache)
        # Nobody else holds the caches: each is freed when the walk has passed its layer.
        del prediction, loss_cache
        cache = owned(cache)
        if not walkers:
            dparams = gradients(layer, params, cache, g)
            new_params, opt_state = update(advanced, dparams, state.opt_state)
        else:
            opt_state = state.opt_state
            check_state("sgd", opt_state, None)
            new_params = records(walkers[donate], layer, params, cache, g)
            if advanced is not params:
                new_params = tree.map(lambda _, moved: moved, advanced, new_params)
        new_state = TrainState(new_params, opt_state, state.key, state.step + 1)
        if donate:
            spend_replaced((params, state.opt_state), (new_params, opt_state))
        return new_state, value

    pure = partial(run, False)
    formula = formula_of(loss)
    check = None if formula is None else formula.check_first
    return Step(
        net,
        loss,
        optimizer,
        donate,
        pure,
        partial(run, True) if donate else pure,
        None if check is None else partial(check_prediction, layer, check),
    )


def train(
    step: StepFunction, state: TrainState, batches: Iterable[Batch]
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Take a step for every batch, and let the caller decide when to look, stop or save.

    Args:
        step: from `make_step`, or any function of its kind.
        state: to start from.
        batches: an iterable of (x, target).

    Yields:
        The state after each step, and what the step tells.

    Raises:
        LayerError: if step or state is not of its kind, batches cannot be walked, or are an
            iterator that gives nothing; and as the step does.
        NonFiniteError: for a loss that is not finite, also if the step does not look itself.

    Example:
        >>> count = lambda state, batch: (state, torch.tensor(0.5))
        >>> begin = TrainState((), (), Key(0), torch.tensor(0))
        >>> [record.step for state, record in train(count, begin, [(1, 2), (3, 4)])]
        [1, 2]
    """
    if isinstance(step, Layer) or not callable(step):
        swapped = "(step, state, batches)" if hasattr(step, "step") else ""
        raise wrong_kind("train", "step", step, "what make_step returns", swapped)
    if not hasattr(state, "step") or isinstance(state, Step):
        raise wrong_kind("train", "state", state, "TrainState")
    check_walkable("train", batches)
    number = begun = int(state.step)
    for batch in batches:
        state, value = step(state, batch)
        number += 1
        loss = value.item()
        if not math.isfinite(loss):
            raise NonFiniteError(f"step {number}", f"the loss is {loss}")
        yield state, StepRecord(number, loss, _examples(batch))
    # What can be walked again may give nothing: a run that is resumed at its end has no step left.
    if number == begun and is_used_once(batches):
        problem = "expected at least one batch, got none: the iterator is used up"
        raise LayerError("train", f"{problem}; give a list, a DataLoader or data.batches")


def _examples(batch: Batch) -> int | None:
    x = batch[0] if type(batch) is tuple and batch else batch
    first = x if isinstance(x, Tensor) else next(iter(tree.leaves(x)), None)
    return first.shape[0] if isinstance(first, Tensor) and first.ndim else None
