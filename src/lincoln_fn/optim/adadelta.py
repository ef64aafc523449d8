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

import torch
from torch import Tensor

from lincoln_fn.core import Epsilon, NonNegative, Params, Probability, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import running_mean, take_step


@record
class AdadeltaState:
    """The step for a schedule, else None, and the running means of dp^2 and of d^2."""

    step: Tensor | None
    square: Params
    moved: Params


def rules(at: At, *, rho: float, eps: float) -> Rules:
    """Compute d = sqrt(u + eps) / sqrt(s + eps) dp, p <- p - lr d, between the two means."""

    def rule(p: Tensor, dp: Tensor, s: Tensor, u: Tensor) -> Row:
        s = running_mean(s, dp * dp, rho)
        d = torch.sqrt((u + eps) / (s + eps)) * dp
        return take_step(p, d, at.lr), s, running_mean(u, d * d, rho)

    def adjoint(
        p: Tensor, dp: Tensor, s: Tensor, u: Tensor, p_bar: Tensor, s_bar: Tensor, u_bar: Tensor
    ) -> Row:
        s = running_mean(s, dp * dp, rho)
        q = torch.sqrt((u + eps) / (s + eps))
        d = q * dp
        d_bar = -at.lr * p_bar + 2 * (1 - rho) * d * u_bar
        q_times_bar = d * d_bar
        u_bar = rho * u_bar + q_times_bar / (2 * (u + eps))
        s_bar = s_bar - q_times_bar / (2 * (s + eps))
        dp_bar = q * d_bar + 2 * (1 - rho) * dp * s_bar
        return p_bar, dp_bar, rho * s_bar, u_bar, {"lr": -d * p_bar}

    return rule, adjoint


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
        eps: added under both roots, so that neither the denominator nor the first steps are 0.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.

    Example:
        >>> optimizer, params = adadelta(eps=1.0, rho=0.0), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.75]),), optimizer.init(params))[0]
        (tensor([0.4000]),)
    """
    return leafwise(AdadeltaState, rules, {"square": 0.0, "moved": 0.0})
