"""Adadelta: steps in the parameters' own units, scaled by running means.

With both means starting at 0,

    s <- rho s + (1 - rho) dp^2
    d = sqrt(u + eps) / sqrt(s + eps) dp
    p <- p - lr d
    u <- rho u + (1 - rho) d^2

Adjoint. With q = sqrt(u + eps) / sqrt(s + eps) of the old u and the new s, from the last line up,

    bar lr = -sum d bar p
    bar d = -lr bar p + 2 (1 - rho) d bar u
    bar q = dp bar d
    bar u <- rho bar u + q bar q / (2 (u + eps))
    bar s += -q bar q / (2 (s + eps))
    bar dp = q bar d + 2 (1 - rho) dp bar s
    bar s <- rho bar s
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Epsilon, NonNegative, Probability
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    learning_rate,
    regularize_gradient,
    running_mean,
    take_step,
)


@record
class AdadeltaState:
    """The step for a schedule, else None, and the running means of dp^2 and of d^2."""

    step: Tensor | None
    square: Params
    moved: Params


def init(params: Params, *, lr: LearningRate) -> AdadeltaState:
    """Make both means 0, and the count of steps for a schedule."""
    step = no_steps(params) if callable(lr) else None
    return AdadeltaState(step, fill_like(params), fill_like(params))


def update(
    params: Params,
    grads: Params,
    state: AdadeltaState,
    *,
    lr: LearningRate,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> tuple[Params, AdadeltaState]:
    """Compute d = sqrt(u + eps) / sqrt(s + eps) dp, p <- p - lr d, between the two means."""
    check_state("adadelta", state, AdadeltaState, step=callable(lr))
    now = learning_rate(lr, state.step)

    def rule(p: Tensor, dp: Tensor, s: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        s = running_mean(s, dp * dp, rho)
        d = torch.sqrt((u + eps) / (s + eps)) * dp
        return take_step(p, d, now), s, running_mean(u, d * d, rho)

    params, *kept = update_leaves("adadelta", rule, params, grads, state.square, state.moved)
    return params, AdadeltaState(None if state.step is None else state.step + 1, *kept)


@leaf_by_leaf
def adjoint(
    state: AdadeltaState,
    *,
    lr: LearningRate,
    rho: float,
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = q bar d + 2 (1 - rho) dp bar s."""
    now = learning_rate(lr, state.step)

    def rule(
        p: Tensor, dp: Tensor, s: Tensor, u: Tensor, p_bar: Tensor, s_bar: Tensor, u_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        s = running_mean(s, dp * dp, rho)
        q = torch.sqrt((u + eps) / (s + eps))
        d = q * dp
        d_bar = -now * p_bar + 2 * (1 - rho) * d * u_bar
        q_times_bar = d * d_bar
        u_bar = rho * u_bar + q_times_bar / (2 * (u + eps))
        s_bar = s_bar - q_times_bar / (2 * (s + eps))
        products = {"lr": -d * p_bar}
        dp_bar = q * d_bar + 2 * (1 - rho) * dp * s_bar
        return p_bar, dp_bar, rho * s_bar, u_bar, products

    return LeafAdjoint(rule, ("square", "moved"), weight_decay, maximize=maximize)


@constructor
def adadelta(
    lr: LearningRate = 1.0,
    rho: Probability = 0.9,
    eps: Epsilon = 1e-6,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adadelta: d = sqrt(u + eps) / sqrt(s + eps) dp, p <- p - lr d.

    s <- rho s + (1 - rho) dp^2 is computed before, and u <- rho u + (1 - rho) d^2 after.

    Args:
        lr: the learning rate, above 0, or a schedule.
        rho: how much of s and u is kept from step to step.
        eps: added under both roots, so that neither the denominator nor the first steps are 0.
        weight_decay: the factor of p that is added to dp.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdadeltaState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.

    Example:
        >>> optimizer, params = adadelta(eps=1.0, rho=0.0), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.75]),), optimizer.init(params))[0]
        (tensor([0.4000]),)
    """
    return bare(Optimizer, init, update, adjoint)
