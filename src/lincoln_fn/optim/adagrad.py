"""Adagrad: steps scaled by the root of the sum of all squared gradients.

With t counting the steps from 0,

    s <- s + dp^2
    p <- p - lr / (1 + lr_decay t) dp / (sqrt(s) + eps)

Adjoint. With f = 1 / (1 + lr_decay t), the new s, r = sqrt(s) and u = dp / (r + eps),

    bar lr = -f sum u bar p
    bar u = -f lr bar p
    bar s += -u bar u / (2 r (r + eps))
    bar dp = bar u / (r + eps) + 2 dp bar s
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import ratio_back, root, take_scaled_step


@record
class AdagradState:
    """How many steps were taken, and the sum of the squared gradients."""

    step: Tensor
    total: Params


def rules(at: At, *, lr_decay: float, eps: float) -> Rules:
    """Compute s <- s + dp^2, p <- p - lr / (1 + lr_decay t) dp / (sqrt(s) + eps)."""
    slowdown = 1 + lr_decay * at.state.step.double() if lr_decay else 1.0
    lr = at.lr / slowdown

    def rule(p: Tensor, dp: Tensor, s: Tensor) -> Row:
        s = s + dp * dp
        return take_scaled_step(p, dp, root(s) + eps, lr), s

    def adjoint(p: Tensor, dp: Tensor, s: Tensor, p_bar: Tensor, s_bar: Tensor) -> Row:
        s = s + dp * dp
        scale = root(s) + eps
        u = dp / scale
        dp_bar, of_s = ratio_back(u, -lr * p_bar, scale, s)
        s_bar = s_bar + of_s
        return p_bar, dp_bar + 2 * dp * s_bar, s_bar, {"lr": -u * p_bar / slowdown}

    return rule, adjoint


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

    Args:
        lr_decay: how fast the learning rate falls; t counts the steps from 0.
        initial_accumulator_value: the initial s.

    Source: Duchi, Hazan and Singer, "Adaptive Subgradient Methods for Online Learning and
    Stochastic Optimization", 2011.

    Example:
        >>> optimizer, params = adagrad(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return leafwise(AdagradState, rules, {"step": True, "total": initial_accumulator_value})
