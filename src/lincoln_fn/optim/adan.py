"""Adan: Adam's steps along a running mean of gradients and of their differences.

With t counting from 1, d = dp - dp_old of the step before, 0 in the first step, and m, v and n
starting at 0,

    m <- b1 m + (1 - b1) dp
    v <- b2 v + (1 - b2) d
    n <- b3 n + (1 - b3) (dp + b2 d)^2
    u = (m' + b2 v') / (sqrt(n') + eps)
    p <- (p - lr u) / (1 + lr weight_decay)

where ' is the division by 1 - b^t of its own b. The paper's betas are 1 minus these.

Adjoint. With h = dp + b2 d, f = 1 / (1 + lr weight_decay) and q the new p, from the last line up,

    bar lr = -f sum (u + weight_decay q) bar q
    bar weight_decay = -lr f sum q bar q
    bar p = f bar q, bar u = -lr f bar q
    bar h = 2 (1 - b3) h bar n
    bar d = (1 - b2) bar v + b2 bar h
    bar dp = (1 - b1) bar m + bar h + bar d + bar dp_old of the new state
    bar dp_old = -bar d
    bar m <- b1 bar m, bar v <- b2 bar v, bar n <- b3 bar n
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import ratio_back, root, running_mean, take_step


@record
class AdanState:
    """How many steps were taken, the three running means, and the last gradient."""

    step: Tensor
    m: Params
    v: Params
    n: Params
    last: Params


def rules(
    at: At, *, betas: tuple[float, float, float], eps: float, weight_decay: float | Tensor
) -> Rules:
    """Compute p <- (p - lr u) / (1 + lr weight_decay), and the new means."""
    (b1, b2, b3), (c1, c2, c3) = betas, (1 - beta**at.t for beta in betas)
    f, is_first = 1 / (1 + at.lr * weight_decay), at.state.step == 0

    def moved(dp: Tensor, m: Tensor, v: Tensor, n: Tensor, last: Tensor) -> tuple[Tensor, ...]:
        """Compute the new means, h, u and its denominator."""
        d = torch.where(is_first, 0, dp - last)
        m, v, h = running_mean(m, dp, b1), running_mean(v, d, b2), dp + b2 * d
        n = running_mean(n, h * h, b3)
        scale = root(n / c3) + eps
        return m, v, n, h, (m / c1 + b2 / c2 * v) / scale, scale

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, n: Tensor, last: Tensor) -> Row:
        m, v, n, _, u, _ = moved(dp, m, v, n, last)
        return take_step(p, u, at.lr) * f, m, v, n, dp.clone()

    def adjoint(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, n: Tensor, last: Tensor,
        q_bar: Tensor, m_bar: Tensor, v_bar: Tensor, n_bar: Tensor, last_bar: Tensor,
    ) -> Row:  # fmt: skip
        m, v, n, h, u, scale = moved(dp, m, v, n, last)
        q = take_step(p, u, at.lr) * f
        of_sum, of_n = ratio_back(u, -at.lr * f * q_bar, scale, n / c3)
        m_bar, v_bar, n_bar = m_bar + of_sum / c1, v_bar + b2 / c2 * of_sum, n_bar + of_n / c3
        h_bar = 2 * (1 - b3) * h * n_bar
        d_bar = torch.where(is_first, 0, (1 - b2) * v_bar + b2 * h_bar)
        dp_bar = (1 - b1) * m_bar + h_bar + d_bar + last_bar
        products = {
            "lr": -f * (u + weight_decay * q) * q_bar, "weight_decay": -at.lr * f * q * q_bar
        }  # fmt: skip
        return f * q_bar, dp_bar, b1 * m_bar, b2 * v_bar, b3 * n_bar, -d_bar, products

    return rule, adjoint


@constructor
def adan(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay, Decay] = (0.98, 0.92, 0.99),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adan: Adam's steps along running means of dp and of its differences, dp - old dp.

    Args:
        betas: b1, b2 and b3, how much of the means of dp, of its differences, and of the square of
            their sum is kept from step to step.
        weight_decay: how strongly p decays.

    Source: Xie et al., "Adan: Adaptive Nesterov Momentum Algorithm for Faster Optimizing Deep
    Models", 2022, algorithm 1.

    Example:
        >>> optimizer, params = adan(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    start = {"step": True, "m": 0.0, "v": 0.0, "n": 0.0, "last": 0.0}
    return leafwise(AdanState, rules, start)
