"""Adamax: Adam with a decaying maximum of |dp| in place of the mean square.

With t counting from 1, and m and u starting at 0,

    m <- b1 m + (1 - b1) dp
    u <- max(b2 u, |dp| + eps)
    p <- p - lr m / ((1 - b1^t) u)

Adjoint. With c = 1 - b1^t and the new m and u, from the last line up,

    bar lr = -sum m / (c u) bar p
    bar m += -lr bar p / (c u)
    bar u += lr m bar p / (c u^2)
    bar dp = (1 - b1) bar m + sign(dp) bar u    where u is |dp| + eps
    bar dp = (1 - b1) bar m                     elsewhere
    bar u <- 0, or elsewhere b2 bar u
    bar m <- b1 bar m
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Decay, Epsilon, NonNegative
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    learning_rate,
    regularize_gradient,
    running_mean,
    take_scaled_step,
)


@record
class AdamaxState:
    """How many steps were taken, the running mean m of dp, and the decaying maximum u of |dp|."""

    step: Tensor
    m: Params
    u: Params


def init(params: Params) -> AdamaxState:
    """Make m and u 0."""
    return AdamaxState(no_steps(params), fill_like(params), fill_like(params))


def update(
    params: Params,
    grads: Params,
    state: AdamaxState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> tuple[Params, AdamaxState]:
    """Compute u <- max(b2 u, |dp| + eps), p <- p - lr m / ((1 - b1^t) u)."""
    check_state("adamax", state, AdamaxState)
    b1, b2 = betas
    step, now = state.step + 1, learning_rate(lr, state.step)
    unbiased_lr = now / (1 - b1 ** step.double())

    def rule(p: Tensor, dp: Tensor, m: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        m = running_mean(m, dp, b1)
        u = torch.maximum(b2 * u, dp.abs() + eps)
        return take_scaled_step(p, m, u, unbiased_lr), m, u

    params, *kept = update_leaves("adamax", rule, params, grads, state.m, state.u)
    return params, AdamaxState(step, *kept)


@leaf_by_leaf
def adjoint(
    state: AdamaxState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = (1 - b1) bar m, and sign(dp) bar u where u is |dp| + eps."""
    b1, b2 = betas
    now, c = learning_rate(lr, state.step), 1 - b1 ** (state.step + 1).double()

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, u: Tensor, p_bar: Tensor, m_bar: Tensor, u_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        m, size = running_mean(m, dp, b1), dp.abs() + eps
        is_new, u = size > b2 * u, torch.maximum(b2 * u, size)
        products = {"lr": -m / (c * u) * p_bar}
        m_bar = m_bar - now * p_bar / (c * u)
        u_bar = u_bar + now * m * p_bar / (c * u * u)
        dp_bar = (1 - b1) * m_bar + torch.where(is_new, dp.sign() * u_bar, 0)
        return p_bar, dp_bar, b1 * m_bar, torch.where(is_new, 0, b2 * u_bar), products

    return LeafAdjoint(rule, ("m", "u"), weight_decay, maximize=maximize)


@constructor
def adamax(
    lr: LearningRate = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adamax: u <- max(b2 u, |dp| + eps), p <- p - lr m / ((1 - b1^t) u).

    Here m <- b1 m + (1 - b1) dp, and t counts from 1.

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: b1 and b2, how much of m and of u is kept from step to step.
        eps: is added to |dp|, so that the denominator is not 0.
        weight_decay: the factor of p that is added to dp.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdamaxState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2.

    Example:
        >>> optimizer, params = adamax(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return bare(Optimizer, init, update, adjoint)
