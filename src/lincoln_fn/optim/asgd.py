"""Averaged stochastic gradient descent.

With t counting from 0, and the average a starting at 0,

    eta = lr / (1 + lambd lr t)^alpha
    mu = 1 / max(1, t - t0)
    p <- (1 - lambd eta) p - eta dp
    a <- a + mu (p - a)

Until averaging begins, at step t0, mu is 1 and a is p.

Adjoint. With w = 1 + lambd lr t, so that eta = lr / w^alpha, from the last line up,

    bar p += mu bar a
    bar a <- (1 - mu) bar a
    bar eta = -sum (lambd p + dp) bar p
    bar dp = -eta bar p
    bar p <- (1 - lambd eta) bar p
    bar lr = bar eta (1 + (1 - alpha) lambd lr t) / w^(1 + alpha)
"""

from __future__ import annotations

from typing import Annotated

from torch import Tensor

from lincoln_fn.core import OR_INFINITE, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import take_step


@record
class AsgdState:
    """How many steps were taken, and the average of p so far."""

    step: Tensor
    average: Params


def rules(at: At, *, lambd: float, alpha: float, t0: float) -> Rules:
    """Compute p <- (1 - lambd eta) p - eta dp, a <- a + mu (p - a)."""
    t = at.state.step.double()
    w, mu = 1 + lambd * at.lr * t, 1 / (t - t0).clamp(min=1)
    eta = at.lr / w**alpha
    shrink = 1 - lambd * eta

    def rule(p: Tensor, dp: Tensor, average: Tensor) -> Row:
        p = take_step(p * shrink, dp, eta)
        return p, average + mu * (p - average)

    def adjoint(p: Tensor, dp: Tensor, average: Tensor, p_bar: Tensor, average_bar: Tensor) -> Row:
        of_lr = (1 + (1 - alpha) * lambd * at.lr * t) / w ** (1 + alpha)
        p_bar = p_bar + mu * average_bar
        products = {"lr": -of_lr * (dp + lambd * p) * p_bar}
        return shrink * p_bar, -eta * p_bar, (1 - mu) * average_bar, products

    return rule, adjoint


@constructor
def asgd(
    lr: LearningRate = 1e-2,
    lambd: NonNegative = 1e-4,
    alpha: float = 0.75,
    t0: Annotated[NonNegative, OR_INFINITE] = 1e6,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make averaged gradient descent: p <- (1 - lambd eta) p - eta dp, a <- a + mu (p - a).

    With t counting from 0, eta = lr / (1 + lambd lr t)^alpha and mu = 1 / max(1, t - t0). The
    average a is in the state.

    Args:
        t0: the step at which averaging begins.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992.

    Example:
        >>> optimizer, params = asgd(0.5, lambd=0.0), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([-1.]),)
    """
    return leafwise(AsgdState, rules, {"step": True, "average": 0.0})
