"""Stochastic gradient descent, with momentum.

The first b is dp. From then on,

    b <- momentum b + (1 - dampening) dp
    p <- p - lr b

Nesterov's variant takes a step along dp + momentum b. Without momentum, b is dp.

Adjoint. d is what the step goes along. From the last line up, where at the first step 1 replaces
1 - dampening,

    bar lr = -sum d bar p
    bar d = -lr bar p
    bar b += bar d, or for Nesterov's variant momentum bar d, and bar dp = bar d
    bar momentum = sum b_old bar b, and for Nesterov's variant sum b bar d
    bar dp += (1 - dampening) bar b
    bar b <- momentum bar b

The penalty dp + weight_decay p adds weight_decay bar dp to bar p, and sum p bar dp is its
derivative in weight_decay.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Momentum, NonNegative, require
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer, OptimizerState
from lincoln_fn.optim.rules import (
    add_scaled,
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
    keeps = counts or bool(momentum > 0)
    check_state("sgd", state, SgdState if keeps else None, step=counts, momentum=bool(momentum > 0))
    step, b_tree = (state.step, state.momentum) if keeps else (None, None)
    now, share = learning_rate(lr, step), _share(step, momentum, dampening)

    def rule(p: Tensor, dp: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        if b is None:
            return take_step(p, dp, now), None
        b = add_scaled(dp, b, momentum) if share is None else momentum * b + share * dp
        return take_step(p, add_scaled(dp, b, momentum) if nesterov else b, now), b

    params, b_tree = update_leaves("sgd", rule, params, grads, b_tree)
    new_step = None if step is None else step + 1
    return params, SgdState(new_step, b_tree) if keeps else state


def _share(step: Tensor | None, momentum: float, dampening: float) -> Tensor | None:
    """Compute the factor of dp in b, all of dp at the first step; None for 1."""
    if step is None or not (momentum and dampening):
        return None
    return 1 - dampening * (step > 0).double()


@leaf_by_leaf
def adjoint(
    state: OptimizerState,
    *,
    lr: LearningRate,
    momentum: float,
    dampening: float,
    weight_decay: float,
    nesterov: bool,
    maximize: bool,
    counts: bool,
) -> LeafAdjoint:
    """Compute bar dp = (1 - dampening) bar b, bar b <- momentum bar b, with bar d = -lr bar p."""
    keeps = counts or bool(momentum > 0)
    step = state.step if keeps else None
    now, share = learning_rate(lr, step), _share(step, momentum, dampening)

    def rule(
        p: Tensor, dp: Tensor, b: Tensor | None, p_bar: Tensor, b_bar: Tensor | None
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        d_bar, d, products = -now * p_bar, dp, {}
        dp_bar = d_bar
        if b is not None and b_bar is not None:
            new_b = add_scaled(dp, b, momentum) if share is None else momentum * b + share * dp
            d = add_scaled(dp, new_b, momentum) if nesterov else new_b
            b_bar = add_scaled(b_bar, d_bar, momentum if nesterov else 1.0)
            products["momentum"] = b * b_bar + (new_b * d_bar if nesterov else 0)
            of_b = b_bar if share is None else share * b_bar
            dp_bar = d_bar + of_b if nesterov else of_b
            b_bar = momentum * b_bar
        products["lr"] = -d * p_bar
        return p_bar, dp_bar, b_bar, products

    return LeafAdjoint(rule, ("momentum",), weight_decay, maximize=maximize)


@constructor
def sgd(
    lr: LearningRate = 1e-3,
    momentum: Momentum = 0.0,
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
    functions = (partial(f, counts=counts) for f in (init, update, adjoint))
    return bare(Optimizer, *functions)
