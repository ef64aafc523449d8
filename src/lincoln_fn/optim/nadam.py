"""NAdam: Adam with Nesterov's momentum.

With t counting from 1, m, v and v' as in Adam, and M_t the product of all mu so far,

    mu_t = b1 (1 - 0.96^(t momentum_decay) / 2)
    M_t = mu_1 ... mu_t
    p <- p - lr ((1 - mu_t) / (1 - M_t) dp + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v') + eps)

Adjoint. With a and b the factors of dp and m above, c2 = 1 - b2^t, r = sqrt(v'), s = r + eps and
u = (a dp + b m) / s, from the last line up,

    bar lr = -sum u bar p
    bar u = -lr bar p
    bar m += b bar u / s
    bar v += -u bar u / (2 c2 s r)
    bar dp = a bar u / s + (1 - b1) bar m + 2 (1 - b2) dp bar v
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
class NadamState:
    """How many steps were taken, the product of all mu so far, and both running means."""

    step: Tensor
    mu_product: Tensor
    m: Params
    v: Params


def init(params: Params) -> NadamState:
    """Make both means 0, and the product 1."""
    step = no_steps(params)
    one = torch.ones((), dtype=torch.float64, device=step.device)
    return NadamState(step, one, fill_like(params), fill_like(params))


def update(
    params: Params,
    grads: Params,
    state: NadamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> tuple[Params, NadamState]:
    """Compute p <- p - lr (a dp + b m) / (sqrt(v') + eps), with a and b as the module says."""
    check_state("nadam", state, NadamState)
    now, step = learning_rate(lr, state.step), state.step + 1
    product, of_dp, of_m = _factors(state, betas[0], momentum_decay)
    correction = 1 - betas[1] ** step.double()

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        penalty = 0.0 if decoupled_weight_decay else weight_decay
        dp = regularize_gradient(p, dp, penalty, maximize)
        p = decay_weight(p, now, weight_decay) if decoupled_weight_decay else p
        m, v = moments(m, v, dp, betas)
        scale = root(v / correction) + eps
        return take_scaled_step(p, of_dp * dp + of_m * m, scale, now), m, v

    params, *kept = update_leaves("nadam", rule, params, grads, state.m, state.v)
    return params, NadamState(step, product, *kept)


def _factors(state: NadamState, b1: float, momentum_decay: float) -> tuple[Tensor, Tensor, Tensor]:
    """Compute M_t, and the factors a of dp and b of m."""
    t = (state.step + 1).double()
    mu, mu_next = (b1 * (1 - 0.5 * 0.96 ** (s * momentum_decay)) for s in (t, t + 1))
    product = state.mu_product * mu
    return product, (1 - mu) / (1 - product), mu_next / (1 - product * mu_next)


@leaf_by_leaf
def adjoint(
    state: NadamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    momentum_decay: float,
    decoupled_weight_decay: bool,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = a bar u / s + (1 - b1) bar m + 2 (1 - b2) dp bar v."""
    now = learning_rate(lr, state.step)
    _, of_dp, of_m = _factors(state, betas[0], momentum_decay)
    c2 = 1 - betas[1] ** (state.step + 1).double()

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, p_bar: Tensor, m_bar: Tensor, v_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        m, v = moments(m, v, dp, betas)
        s = root(v / c2) + eps
        u, u_bar = (of_dp * dp + of_m * m) / s, -now * p_bar
        m_bar = m_bar + of_m * u_bar / s
        v_bar = v_bar - u * u_bar / s * root_slope(v / c2) / c2
        dp_bar, *bars = moments_back(dp, m_bar, v_bar, betas)
        return p_bar, of_dp * u_bar / s + dp_bar, *bars, {"lr": -u * p_bar}

    return LeafAdjoint(
        rule, ("m", "v"), weight_decay, now if decoupled_weight_decay else None, maximize
    )


@constructor
def nadam(
    lr: LearningRate = 2e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum_decay: NonNegative = 4e-3,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make NAdam: Adam with Nesterov's momentum, whose mu_t rises towards b1.

    With mu_t = b1 (1 - 0.96^(t momentum_decay) / 2), M_t = mu_1 ... mu_t, and m, v, v' as in Adam,

        p <- p - lr ((1 - mu_t) / (1 - M_t) dp + mu_(t+1) / (1 - M_(t+1)) m) / (sqrt(v') + eps)

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: b1 and b2, how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0.
        weight_decay: the factor of p that is added to dp or, decoupled, p is multiplied by
            1 - lr weight_decay.
        momentum_decay: how fast mu rises.
        decoupled_weight_decay: whether p is multiplied, as by AdamW.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is a `NadamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Dozat, "Incorporating Nesterov Momentum into Adam", 2016, algorithm 2.

    Example:
        >>> optimizer, params = nadam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.4718]),)
    """
    return bare(Optimizer, init, update, adjoint)
