"""RMSprop: steps scaled by a running mean of the squared gradient.

With s starting at 0,

    s <- alpha s + (1 - alpha) dp^2
    p <- p - lr dp / (sqrt(s) + eps)

The centered variant uses s - m^2 instead of s, with m <- alpha m + (1 - alpha) dp; where rounding
makes that negative, 0. With momentum,

    b <- momentum b + dp / (sqrt(s) + eps)
    p <- p - lr b

Adjoint. With the new s and m, c = s - m^2 (or s), r = sqrt(c) and u = dp / (r + eps),

    bar lr = -sum b bar p
    bar b += -lr bar p
    bar momentum = sum b_old bar b
    bar u = bar b
    bar c = -u bar u / (2 r (r + eps))
    bar s += bar c,    bar m += -2 m bar c
    bar dp = bar u / (r + eps) + 2 (1 - alpha) dp bar s + (1 - alpha) bar m
    bar b <- momentum bar b,    bar s <- alpha bar s,    bar m <- alpha bar m

Without momentum, b is u, and bar u = -lr bar p.
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Epsilon, Momentum, NonNegative, Params, Probability, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import ratio_back, root, running_mean, take_scaled_step, take_step


@record
class RmspropState:
    """The step for a schedule, the running means of dp^2 and dp, and b; None if not kept."""

    step: Tensor | None
    square: Params
    mean: Params | None
    momentum: Params | None


def rules(at: At, *, alpha: float, eps: float, momentum: float) -> Rules:
    """Compute s <- alpha s + (1 - alpha) dp^2, p <- p - lr dp / (sqrt(s) + eps)."""

    def means(dp: Tensor, s: Tensor, m: Tensor | None) -> tuple[Tensor, Tensor | None, Tensor]:
        """Compute the new s and m, and c; a difference that rounding makes negative has no root."""
        s = running_mean(s, dp * dp, alpha)
        if m is None:
            return s, None, s
        m = running_mean(m, dp, alpha)
        return s, m, (s - m * m).clamp(min=0)

    def rule(p: Tensor, dp: Tensor, s: Tensor, m: Tensor | None, b: Tensor | None) -> Row:
        s, m, c = means(dp, s, m)
        scale = root(c) + eps
        if b is None:
            return take_scaled_step(p, dp, scale, at.lr), s, m, None
        b = momentum * b + dp / scale
        return take_step(p, b, at.lr), s, m, b

    def adjoint(
        p: Tensor, dp: Tensor, s: Tensor, m: Tensor | None, b: Tensor | None,
        p_bar: Tensor, s_bar: Tensor, m_bar: Tensor | None, b_bar: Tensor | None,
    ) -> Row:  # fmt: skip
        s, m, c = means(dp, s, m)
        scale = root(c) + eps
        u, u_bar, products = dp / scale, -at.lr * p_bar, {}
        direction = u
        if b is not None and b_bar is not None:
            direction, u_bar = momentum * b + u, b_bar + u_bar
            products["momentum"], b_bar = b * u_bar, momentum * u_bar
        products["lr"] = -direction * p_bar
        dp_bar, c_bar = ratio_back(u, u_bar, scale, c)
        s_bar = s_bar + c_bar
        dp_bar = dp_bar + 2 * (1 - alpha) * dp * s_bar
        if m is not None and m_bar is not None:
            m_bar = m_bar - 2 * m * c_bar
            dp_bar, m_bar = dp_bar + (1 - alpha) * m_bar, alpha * m_bar
        return p_bar, dp_bar, alpha * s_bar, m_bar, b_bar, products

    return rule, adjoint


@constructor
def rmsprop(
    lr: LearningRate = 1e-2,
    alpha: Probability = 0.99,
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum: Momentum = 0.0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make RMSprop: s <- alpha s + (1 - alpha) dp^2, p <- p - lr dp / (sqrt(s) + eps).

    With momentum, b <- momentum b + dp / (sqrt(s) + eps) and p <- p - lr b. The centered variant
    uses s - m^2 instead of s, with m the running mean of dp.

    Source: Hinton, "Neural Networks for Machine Learning", 2012, lecture 6e; Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013, for the centered variant.

    Example:
        >>> optimizer, params = rmsprop(0.5, alpha=0.75), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.]),)
    """
    mean, b = 0.0 if centered else None, 0.0 if momentum else None
    return leafwise(RmspropState, rules, {"square": 0.0, "mean": mean, "momentum": b})
