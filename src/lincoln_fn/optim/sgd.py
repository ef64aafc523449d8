"""Stochastic gradient descent, with momentum.

The first b is dp. From then on,

    b <- momentum b + (1 - dampening) dp
    p <- p - lr b

Nesterov's variant takes a step along dp + momentum b. Without momentum, b is dp.
"""

from __future__ import annotations

from functools import partial

from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import NonNegative, require
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer, OptimizerState
from lincoln_fn.optim.rules import (
    learning_rate,
    regularize_gradient,
    take_step,
)


@record
class SgdState:
    """The momentum, and the step if the update depends on it; None if not kept."""

    step: Tensor | None
    momentum: Params | None


def init(params: Params, *, counts: bool, momentum: float) -> OptimizerState:
    """Make the momentum 0, and the count of steps if the update counts them."""
    if not (counts or momentum):
        return ()
    return SgdState(no_steps(params) if counts else None, fill_like(params) if momentum else None)


def update(
    params: Params,
    grads: Params,
    state: OptimizerState,
    *,
    lr: LearningRate,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    counts: bool,
) -> tuple[Params, OptimizerState]:
    """Compute b <- momentum b + (1 - dampening) dp, p <- p - lr b."""
    keeps = counts or momentum > 0
    check_state("sgd", state, SgdState if keeps else None, step=counts, momentum=momentum > 0)
    step, b_tree = (state.step, state.momentum) if keeps else (None, None)
    now = learning_rate(lr, step)
    share = None
    if step is not None and momentum and dampening:
        share = 1 - dampening * (step > 0).double()  # all of dp at the first step

    def rule(p: Tensor, dp: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        if b is None:
            return take_step(p, dp, now), None
        b = dp.add(b, alpha=momentum) if share is None else momentum * b + share * dp
        return take_step(p, dp.add(b, alpha=momentum) if nesterov else b, now), b

    params, b_tree = update_leaves("sgd", rule, params, grads, b_tree)
    new_step = None if step is None else step + 1
    return params, SgdState(new_step, b_tree) if keeps else state


@constructor
def sgd(
    lr: LearningRate = 1e-3,
    momentum: NonNegative = 0.0,
    dampening: float = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make stochastic gradient descent: b <- momentum b + (1 - dampening) dp, p <- p - lr b.

    The first b is dp. Nesterov's variant takes a step along dp + momentum b.

    Args:
        lr: the learning rate, above 0, or a schedule.
        momentum: how much of b is kept from step to step, at least 0.
        dampening: how much of dp is left out of b.
        weight_decay: the factor of p that is added to dp.
        nesterov: whether the momentum is Nesterov's, which needs momentum and no dampening.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer. Its state is () for a number as lr and no momentum.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Example:
        >>> optimizer = sgd(0.5)
        >>> optimizer.update((torch.tensor([1.0]),), (torch.tensor([4.0]),), ())
        ((tensor([-1.]),), ())
    """
    ready = not nesterov or (momentum > 0 and dampening == 0)
    require(ready, "sgd", "momentum and no dampening for nesterov", (momentum, dampening))
    counts = callable(lr) or (momentum > 0 and dampening != 0)
    return bare(Optimizer, partial(init, counts=counts), partial(update, counts=counts))
