"""Adam and AdamW: steps scaled by running means of the gradient and of its square.

With t counting from 1, and both means starting at 0,

    m <- b1 m + (1 - b1) dp                 E[m] = (1 - b1^t) E[dp] for a steady gradient
    v <- b2 v + (1 - b2) dp^2               E[v] = (1 - b2^t) E[dp^2]
    p <- p - lr m' / (sqrt(v') + eps),      m' = m / (1 - b1^t), v' = v / (1 - b2^t)

so that m' and v' are unbiased from the first step on. AMSGrad replaces v by the largest v so far.
Adam adds the weight decay to dp. AdamW multiplies p by 1 - lr weight_decay instead, which does not
enter the running means.

Adjoint. With c1 = 1 - b1^t, c2 = 1 - b2^t, r = sqrt(v'), s = r + eps and u = m' / s, from the last
line up,

    bar lr = -sum u bar p
    bar m += -lr bar p / (c1 s)
    bar v += lr u bar p / (2 c2 s r)
    bar dp = (1 - b1) bar m + 2 (1 - b2) dp bar v
    bar m <- b1 bar m
    bar v <- b2 bar v

Where AMSGrad's largest v so far is v itself, its bar goes to v, and elsewhere to the old one.
AdamW's factor of p gives

    bar lr += -weight_decay sum p bar p
    bar weight_decay = -lr sum p bar p
    bar p <- (1 - lr weight_decay) bar p
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, Start, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import moments, moments_back, ratio_back, root, take_scaled_step


@record
class AdamState:
    """How many steps were taken, both running means, and AMSGrad's largest v or None."""

    step: Tensor
    m: Params
    v: Params
    v_max: Params | None


def rules(at: At, *, betas: tuple[float, float], eps: float) -> Rules:
    """Compute p <- p - lr m' / (sqrt(v') + eps), and the new means."""
    c1, c2 = (1 - beta**at.t for beta in betas)

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None) -> Row:
        m, v = moments(m, v, dp, betas)
        v_max = None if v_max is None else torch.maximum(v_max, v)
        scale = root((v if v_max is None else v_max) / c2) + eps
        return take_scaled_step(p, m / c1, scale, at.lr), m, v, v_max

    def adjoint(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None,
        p_bar: Tensor, m_bar: Tensor, v_bar: Tensor, v_max_bar: Tensor | None,
    ) -> Row:  # fmt: skip
        m, v = moments(m, v, dp, betas)
        unbiased_v = (v if v_max is None else torch.maximum(v_max, v)) / c2
        s = root(unbiased_v) + eps
        u = m / (c1 * s)
        of_m, of_v = ratio_back(u, -at.lr * p_bar, s, unbiased_v)
        of_v = of_v / c2
        if v_max is not None and v_max_bar is not None:
            of_v = of_v + v_max_bar
            v_max_bar = torch.where(v > v_max, 0, of_v)
            of_v = torch.where(v > v_max, of_v, 0)
        bars = moments_back(dp, m_bar + of_m / c1, v_bar + of_v, betas)
        return p_bar, *bars, v_max_bar, {"lr": -u * p_bar}

    return rule, adjoint


def _start(amsgrad: bool) -> Start:
    return {"step": True, "m": 0.0, "v": 0.0, "v_max": 0.0 if amsgrad else None}


@constructor
def adam(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adam: p <- p - lr m' / (sqrt(v') + eps), with the unbiased means of dp and dp^2.

    Args:
        betas: how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0. With 0, a parameter whose gradient is
            0 becomes nan, as in torch.
        weight_decay: the factor of p that is added to dp.
        amsgrad: whether the largest v so far is used.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Reddi,
    Kale and Kumar, "On the Convergence of Adam and Beyond", 2018.

    Example:
        >>> optimizer, params = adam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return leafwise(AdamState, rules, _start(amsgrad))


@constructor
def adamw(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 1e-2,
    amsgrad: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make AdamW: Adam, after p has been multiplied by 1 - lr weight_decay.

    Args:
        betas: how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0. With 0, a parameter whose gradient is
            0 becomes nan, as in torch.
        weight_decay: how strongly p decays.
        amsgrad: whether the largest v so far is used.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.

    Example:
        >>> optimizer, params = adamw(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.0]),), optimizer.init(params))[0]
        (tensor([0.9950]),)
    """
    return leafwise(AdamState, rules, _start(amsgrad), decoupled=True)
