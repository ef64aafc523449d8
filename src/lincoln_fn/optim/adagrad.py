"""Adagrad: steps scaled by the root of the sum of all squared gradients.

With t counting the steps from 0,

    s <- s + dp^2
    p <- p - lr / (1 + lr_decay t) dp / (sqrt(s) + eps)

Adjoint. With f = 1 / (1 + lr_decay t), r = sqrt(s) of the new s, and u = dp / (r + eps), from the
last line up,

    bar lr = -f sum u bar p
    bar u = -f lr bar p
    bar s += -u bar u / (2 r (r + eps))
    bar dp = bar u / (r + eps) + 2 dp bar s
"""

from __future__ import annotations

from typing import Any

from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Epsilon, NonNegative
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf, root_slope
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    learning_rate,
    regularize_gradient,
    root,
    take_scaled_step,
)


@record
class AdagradState:
    """How many steps were taken, and the sum of the squared gradients."""

    step: Tensor
    total: Params


def init(params: Params, *, initial_accumulator_value: float) -> AdagradState:
    """Set the sums to the initial s."""
    return AdagradState(no_steps(params), fill_like(params, initial_accumulator_value))


def update(
    params: Params,
    grads: Params,
    state: AdagradState,
    *,
    lr: LearningRate,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> tuple[Params, AdagradState]:
    """Compute s <- s + dp^2, p <- p - lr / (1 + lr_decay t) dp / (sqrt(s) + eps)."""
    check_state("adagrad", state, AdagradState)
    now = learning_rate(lr, state.step)
    if lr_decay:
        now = now / (1 + lr_decay * state.step.double())

    def rule(p: Tensor, dp: Tensor, s: Tensor) -> tuple[Tensor, Tensor]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        s = s + dp * dp
        return take_scaled_step(p, dp, root(s) + eps, now), s

    params, s = update_leaves("adagrad", rule, params, grads, state.total)
    return params, AdagradState(state.step + 1, s)


@leaf_by_leaf
def adjoint(
    state: AdagradState,
    *,
    lr: LearningRate,
    lr_decay: float,
    weight_decay: float,
    eps: float,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = bar u / (r + eps) + 2 dp bar s."""
    now, f = learning_rate(lr, state.step), 1 / (1 + lr_decay * state.step.double())

    def rule(
        p: Tensor, dp: Tensor, s: Tensor, p_bar: Tensor, s_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        s = s + dp * dp
        scale = root(s) + eps
        u, u_bar = dp / scale, -f * now * p_bar
        s_bar = s_bar - u * u_bar / scale * root_slope(s)
        products = {"lr": -f * u * p_bar}
        dp_bar = u_bar / scale + 2 * dp * s_bar
        return p_bar, dp_bar, s_bar, products

    return LeafAdjoint(rule, ("total",), weight_decay, maximize=maximize)


@constructor
def adagrad(
    lr: LearningRate = 1e-2,
    lr_decay: NonNegative = 0.0,
    weight_decay: NonNegative = 0.0,
    initial_accumulator_value: NonNegative = 0.0,
    eps: Epsilon = 1e-10,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adagrad: s <- s + dp^2, p <- p - lr / (1 + lr_decay t) dp / (sqrt(s) + eps).

    Here t counts the steps from 0.

    Args:
        lr: the learning rate, above 0, or a schedule.
        lr_decay: how fast the learning rate falls.
        weight_decay: the factor of p that is added to dp.
        initial_accumulator_value: the initial s.
        eps: is added to the denominator, so that it is not 0.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdagradState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", 2011.

    Example:
        >>> optimizer, params = adagrad(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return bare(Optimizer, init, update, adjoint)
