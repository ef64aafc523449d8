"""The bare step: forward, loss, advance, gradient and update, without checks of its arguments."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, check_not_transformed, check_pair
from lincoln_fn.losses.internal import Loss, check_one_number, unchecked
from lincoln_fn.optim import OptimizerState
from lincoln_fn.training.batch_checks import check_batch, spend_replaced, unshare
from lincoln_fn.training.data import Batch
from lincoln_fn.training.gears import faster
from lincoln_fn.training.protocols import Compute, Gradient
from lincoln_fn.training.train import StepFunction, TrainState
from lincoln_fn.walk import forward_to_train

# An optimizer's: (params, grads, state) -> (params, state).
Update: TypeAlias = Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]

# The order of epoch i is drawn from the run's key and i, from 0 on. -1 is a different stream.
_GRADIENT: Final = -1


@attrs.frozen(eq=False)
class BareStep:
    """A bare step; with `donate`, `update` may compute in the memory of the state."""

    layer: Layer
    loss: Loss
    update: Update
    gradient: Gradient | None
    reduced: Compute | None
    has_parts: bool
    donate: bool

    def __call__(self, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
        """Take a step."""
        params, opt_state, kept = state.params, state.opt_state, state.gradient_state
        if self.reduced is not None:
            mend = "use a step of one process"
            check_not_transformed("step", "it has reduce", mend, (state, batch))
            value, advanced, dparams = self.reduced(params, batch, state.step)
        else:
            layer, gradient = self.layer, self.gradient
            # A gradient of another kind may read any part of the cache.
            forward = partial(forward_to_train, layer) if gradient is None else layer.forward
            made = forward_and_g(forward, layer.name, self.loss, params, batch, self.has_parts)
            value, g, cache = made
            advanced = layer.advance(params, cache)
            if gradient is None:
                dparams = layer.grads(params, cache, g)
            else:
                key = state.key.fold_in(_GRADIENT).fold_in(state.step)
                dparams, kept = gradient.compute(layer, params, cache, g, kept, key)
        if self.donate:
            reason, mend = "donate=True updates the state in place", "use a step without donate"
            check_not_transformed("step", reason, mend, (value, advanced, opt_state, kept))
            has_more = value.ndim and (self.has_parts or self.reduced is not None)
            total = value[0] if has_more else value
            if not (total.ndim == 0 and core.is_finite(total)):
                return state, value  # the step refuses this loss, so the state must not be updated
            # `update` may write into a tensor that another leaf holds, too
            advanced, opt_state, kept = unshare((advanced, opt_state, kept))
        updated = self.update(advanced, dparams, opt_state)
        check_pair("optimizer", "update", updated)
        new_params, opt_state = updated
        return TrainState(new_params, opt_state, state.key, state.step + 1, kept), value


def forward_and_g(
    forward: Callable[[Params, Arrays], tuple[Arrays, Cache]],
    name: str,
    loss: Loss,
    params: Params,
    batch: Batch,
    has_parts: bool = False,
) -> tuple[Tensor, Arrays, Cache]:
    """Compute the loss, with the values of its parts, its gradient g, and the network's cache."""
    x, target = batch
    made = forward(params, x)
    check_pair(name, "forward", made)
    prediction, cache = made
    pair = loss.forward(prediction, target)
    check_pair(loss.name, "loss.forward", pair)
    value, loss_cache = pair
    g = loss.backward(loss_cache)
    return (torch.stack((value, *loss_cache.values)) if has_parts else value), g, cache


def donating_step(run: StepFunction, state: TrainState, batch: Batch) -> tuple[TrainState, Tensor]:
    """Take a bare step that may update the state in place, and empty what it has updated."""
    new_state, value = run(state, batch)
    if new_state is not state:
        # Its key and number stay as they are.
        old, new = ((s.params, s.opt_state, s.gradient_state) for s in (state, new_state))
        spend_replaced(old, new)
    return new_state, value


@core.checked
def value_and_gradient(
    net: Layer, loss: Loss, *, fast: bool = True
) -> Callable[[Params, Batch], tuple[Tensor, Params]]:
    """Make the function (params, (x, target)) -> (loss, dL/dparams), for optimizers of your own.

    It is what a step of `make_step` computes before the optimizer's update.

    Args:
        loss: the loss, with reduction mean or sum.
        fast: whether to run `lf.fast(net)`, which computes the same in less time.

    Example:
        >>> params = lf.layers.dense.Params(torch.ones(1, 1), None)
        >>> compute = value_and_gradient(lf.dense(1, bias=False), lf.losses.mse())
        >>> value, dparams = compute(params, (torch.tensor([[3.0]]), torch.tensor([[1.0]])))
        >>> value, dparams.weight
        (tensor(4.), tensor([[12.]]))
    """
    pair = (faster(net), unchecked(loss)) if fast else (net, loss)
    return partial(_compute, *pair)


def _compute(net: Layer, loss: Loss, params: Params, batch: Batch) -> tuple[Tensor, Params]:
    check_batch("value_and_gradient", batch)
    forward = partial(forward_to_train, net)
    value, g, cache = forward_and_g(forward, net.name, loss, params, batch)
    check_one_number(loss.name, value)
    return value, net.grads(params, cache, g)
