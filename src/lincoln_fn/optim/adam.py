"""Adam and AdamW: steps scaled by running means of the gradient and of its square.

With t counting from 1, and both means starting at 0,

    m <- b1 m + (1 - b1) dp                 E[m] = (1 - b1^t) E[dp] for a steady gradient
    v <- b2 v + (1 - b2) dp^2               E[v] = (1 - b2^t) E[dp^2]
    p <- p - lr m' / (sqrt(v') + eps),      m' = m / (1 - b1^t), v' = v / (1 - b2^t)

so that m' and v' are unbiased from the first step on. AMSGrad replaces v by the largest v so far.
Adam adds the weight decay to dp. AdamW multiplies p by 1 - lr weight_decay instead, which does not
enter the running means.

Adjoint. With u = n / s, n = a dp + b m and s = sqrt(v / c) + eps, from the last line up,

    bar lr = -sum u bar p
    bar n = -lr bar p / s
    bar m += b bar n
    bar v += -u bar n / (2 sqrt(c v))
    bar dp = a bar n + (1 - b1) bar m + 2 (1 - b2) dp bar v
    bar m <- b1 bar m
    bar v <- b2 bar v

Here a = 0, b = 1 / (1 - b1^t) and c = 1 - b2^t; NAdam and RAdam have others. Where AMSGrad's
largest v so far is v itself, its bar goes to v, and elsewhere to the old one. AdamW's factor gives

    bar lr += -weight_decay sum p bar p
    bar weight_decay = -lr sum p bar p
    bar p <- (1 - lr weight_decay) bar p
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, Start, leafwise
from lincoln_fn.optim.leaves import Entry
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
    return moment_rules(at.lr, betas, eps, b=1 / c1, c=c2)


def moment_rules(
    lr: float | Tensor, betas: tuple[float, float], eps: float, *, b: Tensor, c: Tensor | float,
    a: Tensor | None = None, is_scaled: Tensor | None = None,
) -> Rules:  # fmt: skip
    """Compute p <- p - lr (a dp + b m) / s, s = sqrt(v / c) + eps, or 1 where it is not scaled."""

    def direction(dp: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        n, s = b * m, root(v / c) + eps
        s = s if is_scaled is None else torch.where(is_scaled, s, 1.0)
        return (n if a is None else a * dp + n), s

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None = None) -> Row:
        m, v = moments(m, v, dp, betas)
        v_max = None if v_max is None else torch.maximum(v_max, v)
        n, s = direction(dp, m, v if v_max is None else v_max)
        return take_scaled_step(p, n, s, lr), m, v, v_max

    def adjoint(p: Tensor, dp: Tensor, m: Tensor, v: Tensor, *given: Entry) -> Row:
        # Adam's own state has AMSGrad's largest v, or None, behind the two means.
        v_max, p_bar, m_bar, v_bar, *of_max = given if len(given) > 3 else (None, *given)
        m, v = moments(m, v, dp, betas)
        largest = v if v_max is None else torch.maximum(v_max, v)
        n, s = direction(dp, m, largest)
        u = n / s
        n_bar, of_v = ratio_back(u, -lr * p_bar, s, largest / c)
        of_v = of_v / c if is_scaled is None else torch.where(is_scaled, of_v / c, 0)
        if v_max is not None:
            of_v = of_v + of_max[0]
            of_max = [torch.where(v > v_max, 0, of_v)]
            of_v = torch.where(v > v_max, of_v, 0)
        dp_bar, *bars = moments_back(dp, m_bar + b * n_bar, v_bar + of_v, betas)
        dp_bar = dp_bar if a is None else a * n_bar + dp_bar
        return p_bar, dp_bar, *bars, *of_max, {"lr": -u * p_bar}

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
        eps: is added to the denominator. With 0, a parameter whose gradient is 0 becomes nan.
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

    Its arguments are those of `adam`, but for weight_decay, how strongly p decays.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.

    Example:
        >>> optimizer, params = adamw(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.0]),), optimizer.init(params))[0]
        (tensor([0.9950]),)
    """
    return leafwise(AdamState, rules, _start(amsgrad), decoupled=True)
