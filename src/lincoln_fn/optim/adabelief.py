"""AdaBelief: Adam, scaled by how far gradients are from their running mean.

With t counting from 1, and m and s starting at 0,

    m <- b1 m + (1 - b1) dp
    s <- b2 s + (1 - b2) (dp - m)^2 + eps
    p <- p - lr m' / (sqrt(s') + eps),      m' = m / (1 - b1^t), s' = s / (1 - b2^t)

Adjoint. With d = dp - m, the new m, and u the direction, from the last line up, as Adam's,

    bar lr = -sum u bar p
    bar d = 2 (1 - b2) d bar s
    bar m -= bar d
    bar dp = (1 - b1) bar m + bar d
    bar m <- b1 bar m
    bar s <- b2 bar s
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import ratio_back, root, running_mean, take_scaled_step


@record
class AdabeliefState:
    """How many steps were taken, the running mean, and that of the squared deviation from it."""

    step: Tensor
    m: Params
    s: Params


def rules(at: At, *, betas: tuple[float, float], eps: float) -> Rules:
    """Compute p <- p - lr m' / (sqrt(s') + eps), and the new means."""
    (b1, b2), (c1, c2) = betas, (1 - beta**at.t for beta in betas)

    def moved(dp: Tensor, m: Tensor, s: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Compute the new means, and d."""
        m = running_mean(m, dp, b1)
        d = dp - m
        return m, running_mean(s, d * d, b2) + eps, d

    def rule(p: Tensor, dp: Tensor, m: Tensor, s: Tensor) -> Row:
        m, s, _ = moved(dp, m, s)
        return take_scaled_step(p, m / c1, root(s / c2) + eps, at.lr), m, s

    def adjoint(
        p: Tensor, dp: Tensor, m: Tensor, s: Tensor, p_bar: Tensor, m_bar: Tensor, s_bar: Tensor
    ) -> Row:
        m, s, d = moved(dp, m, s)
        scale = root(s / c2) + eps
        u = m / (c1 * scale)
        of_m, of_s = ratio_back(u, -at.lr * p_bar, scale, s / c2)
        s_bar = s_bar + of_s / c2
        d_bar = 2 * (1 - b2) * d * s_bar
        m_bar = m_bar + of_m / c1 - d_bar
        return p_bar, (1 - b1) * m_bar + d_bar, b1 * m_bar, b2 * s_bar, {"lr": -u * p_bar}

    return rule, adjoint


@constructor
def adabelief(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-16,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make AdaBelief: p <- p - lr m' / (sqrt(s') + eps), with the mean s of (dp - m)^2.

    Steps are long where gradients are near their running mean, and short where they are not.

    Args:
        betas: b1 and b2, how much of m and of s is kept from step to step.
        eps: is added to s in each step, and to the denominator.
        weight_decay: how strongly p decays, as by AdamW.

    Source: Zhuang et al., "AdaBelief Optimizer: Adapting Stepsizes by the Belief in Observed
    Gradients", 2020, algorithm 2.

    Example:
        >>> optimizer, params = adabelief(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.4444]),)
    """
    return leafwise(AdabeliefState, rules, {"step": True, "m": 0.0, "s": 0.0}, decoupled=True)
