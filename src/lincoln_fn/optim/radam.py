"""RAdam: Adam, without the scaling until the mean square averages enough gradients.

With m, v and m' as in Adam, and n_t the number of gradients that v averages,

    n = 2 / (1 - b2) - 1
    n_t = n - 2 t b2^t / (1 - b2^t)
    r = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t)) sqrt(1 - b2^t)
    p <- p - lr r m' / (sqrt(v) + eps)    if n_t > 5
    p <- p - lr m'                        otherwise

Adjoint. With c1 = 1 - b1^t and k = r / c1, s = sqrt(v) + eps and u = k m / s, or k = 1 / c1 and
s = 1 in the first steps, from the last line up,

    bar lr = -sum u bar p
    bar u = -lr bar p
    bar m += k bar u / s
    bar v += -u bar u / (2 s sqrt(v)),    or 0 in the first steps
    bar dp = (1 - b1) bar m + 2 (1 - b2) dp bar v
    bar m <- b1 bar m
    bar v <- b2 bar v
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Decay, Epsilon, NonNegative
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf, moments_back, root_slope
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    decay_weight,
    learning_rate,
    moments,
    regularize_gradient,
    root,
    take_scaled_step,
)


@record
class RadamState:
    """How many steps were taken, and both running means."""

    step: Tensor
    m: Params
    v: Params


def init(params: Params) -> RadamState:
    """Make both means 0."""
    return RadamState(no_steps(params), fill_like(params), fill_like(params))


def update(
    params: Params,
    grads: Params,
    state: RadamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> tuple[Params, RadamState]:
    """Compute p <- p - lr r m' / (sqrt(v) + eps) where n_t > 5, else p <- p - lr m'."""
    check_state("radam", state, RadamState)
    now, step = learning_rate(lr, state.step), state.step + 1
    is_scaled, k = _factor(step, betas)
    scaled_lr = now * k

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        penalty = 0.0 if decoupled_weight_decay else weight_decay
        dp = regularize_gradient(p, dp, penalty, maximize)
        p = decay_weight(p, now, weight_decay) if decoupled_weight_decay else p
        m, v = moments(m, v, dp, betas)
        scale = torch.where(is_scaled, root(v) + eps, 1.0)
        return take_scaled_step(p, m, scale, scaled_lr), m, v

    params, *kept = update_leaves("radam", rule, params, grads, state.m, state.v)
    return params, RadamState(step, *kept)


def _factor(step: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Compute whether n_t > 5, and k = r / (1 - b1^t), without r in the first steps."""
    b1, b2 = betas
    n, t = 2 / (1 - b2) - 1, step.double()
    n_t = n - 2 * t * b2**t / (1 - b2**t)
    is_scaled = n_t > 5
    square = (n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t) * (1 - b2**t)
    return is_scaled, torch.where(is_scaled, square, 1.0).sqrt() / (1 - b1**t)


@leaf_by_leaf
def adjoint(
    state: RadamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = (1 - b1) bar m + 2 (1 - b2) dp bar v."""
    now = learning_rate(lr, state.step)
    is_scaled, k = _factor(state.step + 1, betas)

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, p_bar: Tensor, m_bar: Tensor, v_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        m, v = moments(m, v, dp, betas)
        s = torch.where(is_scaled, root(v) + eps, 1.0)
        u, u_bar = k * m / s, -now * p_bar
        m_bar = m_bar + k * u_bar / s
        v_bar = v_bar - torch.where(is_scaled, u * u_bar / s * root_slope(v), 0)
        return p_bar, *moments_back(dp, m_bar, v_bar, betas), {"lr": -u * p_bar}

    return LeafAdjoint(
        rule, ("m", "v"), weight_decay, now if decoupled_weight_decay else None, maximize
    )


@constructor
def radam(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make RAdam: p <- p - lr r m' / (sqrt(v) + eps), or p - lr m' in the first steps.

    m, v and m' are Adam's. With n = 2 / (1 - b2) - 1 and n_t = n - 2 t b2^t / (1 - b2^t), the
    number of gradients that v averages, the scaling is used as soon as n_t > 5, with

        r = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t)) sqrt(1 - b2^t)

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: b1 and b2, how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0.
        weight_decay: the factor of p that is added to dp or, decoupled, p is multiplied by
            1 - lr weight_decay.
        decoupled_weight_decay: whether p is multiplied, as by AdamW.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is a `RadamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020,
    algorithm 2.

    Example:
        >>> optimizer, params = radam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([-1.]),)
    """
    return bare(Optimizer, init, update, adjoint)
