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

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import running_mean, take_scaled_step


@record
class AdamaxState:
    """How many steps were taken, the running mean m of dp, and the decaying maximum u of |dp|."""

    step: Tensor
    m: Params
    u: Params


def rules(at: At, *, betas: tuple[float, float], eps: float) -> Rules:
    """Compute u <- max(b2 u, |dp| + eps), p <- p - lr m / ((1 - b1^t) u)."""
    b1, b2 = betas
    c = 1 - b1**at.t
    unbiased_lr = at.lr / c

    def rule(p: Tensor, dp: Tensor, m: Tensor, u: Tensor) -> Row:
        m = running_mean(m, dp, b1)
        u = torch.maximum(b2 * u, dp.abs() + eps)
        return take_scaled_step(p, m, u, unbiased_lr), m, u

    def adjoint(
        p: Tensor, dp: Tensor, m: Tensor, u: Tensor, p_bar: Tensor, m_bar: Tensor, u_bar: Tensor
    ) -> Row:
        m, size = running_mean(m, dp, b1), dp.abs() + eps
        is_new, u = size > b2 * u, torch.maximum(b2 * u, size)
        direction = m / (c * u)
        m_bar = m_bar - at.lr * p_bar / (c * u)
        u_bar = u_bar + at.lr * direction * p_bar / u
        dp_bar = (1 - b1) * m_bar + torch.where(is_new, dp.sign() * u_bar, 0)
        u_bar = torch.where(is_new, 0, b2 * u_bar)
        return p_bar, dp_bar, b1 * m_bar, u_bar, {"lr": -direction * p_bar}

    return rule, adjoint


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
        betas: b1 and b2, how much of m and of u is kept from step to step.
        eps: is added to |dp|, so that the denominator is not 0.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2.

    Example:
        >>> optimizer, params = adamax(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return leafwise(AdamaxState, rules, {"step": True, "m": 0.0, "u": 0.0})
