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

from functools import partial
from typing import Any

import torch
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import Decay, Epsilon, NonNegative
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf, moments_back
from lincoln_fn.optim.leaves import (
    Rule,
    check_state,
    fill_like,
    no_steps,
    update_leaves,
)
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
class AdamState:
    """How many steps were taken, both running means, and AMSGrad's largest v or None."""

    step: Tensor
    m: Params
    v: Params
    v_max: Params | None


def init(params: Params, *, amsgrad: bool) -> AdamState:
    """Make both means 0, and the largest v for AMSGrad."""
    m, v = fill_like(params), fill_like(params)
    return AdamState(no_steps(params), m, v, fill_like(params) if amsgrad else None)


def update(
    params: Params,
    grads: Params,
    state: AdamState,
    *,
    name: str,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    amsgrad: bool,
    maximize: bool,
) -> tuple[Params, AdamState]:
    """Compute p <- p - lr m' / (sqrt(v') + eps), and the new means."""
    check_state(name, state, AdamState, v_max=amsgrad)
    step = state.step + 1
    rule = leaf_rule(
        step,
        learning_rate(lr, state.step),
        betas=betas,
        eps=eps,
        weight_decay=weight_decay,
        decoupled=decoupled,
        maximize=maximize,
    )
    params, *kept = update_leaves(name, rule, params, grads, state.m, state.v, state.v_max)
    return params, AdamState(step, *kept)


def leaf_rule(
    step: Tensor,
    lr: float | Tensor,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    maximize: bool,
) -> Rule:
    """Make the update rule of a leaf: (p, dp, m, v, v_max) -> (p, m, v, v_max)."""
    correction_m, correction_v = (1 - beta ** step.double() for beta in betas)

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        dp = regularize_gradient(p, dp, 0.0 if decoupled else weight_decay, maximize)
        p = decay_weight(p, lr, weight_decay) if decoupled else p
        m, v = moments(m, v, dp, betas)
        v_max = None if v_max is None else torch.maximum(v_max, v)
        unbiased_m = m / correction_m
        unbiased_v = (v if v_max is None else v_max) / correction_v
        return take_scaled_step(p, unbiased_m, root(unbiased_v) + eps, lr), m, v, v_max

    return rule


@leaf_by_leaf
def adjoint(
    state: AdamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    decoupled: bool,
    amsgrad: bool,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar dp = (1 - b1) bar m + 2 (1 - b2) dp bar v, and the bars of both means."""
    c1, c2 = (1 - beta ** (state.step + 1).double() for beta in betas)
    now = learning_rate(lr, state.step)

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, v_max: Tensor | None,
        p_bar: Tensor, m_bar: Tensor, v_bar: Tensor, v_max_bar: Tensor | None,
    ) -> tuple[Any, ...]:  # fmt: skip  # Any: as `AdjointRule` returns it
        m, v = moments(m, v, dp, betas)
        r = root((v if v_max is None else torch.maximum(v_max, v)) / c2)
        s = r + eps
        u, u_bar_by_s = m / (c1 * s), -now * p_bar / s
        m_bar = m_bar + u_bar_by_s / c1
        of_v = torch.where(r == 0, 0, u_bar_by_s * u / (-2 * c2 * r))
        if v_max is not None and v_max_bar is not None:
            of_v = of_v + v_max_bar
            v_max_bar = torch.where(v > v_max, 0, of_v)
            of_v = torch.where(v > v_max, of_v, 0)
        bars = moments_back(dp, m_bar, v_bar + of_v, betas)
        return p_bar, *bars, v_max_bar, {"lr": -u * p_bar}

    return LeafAdjoint(
        rule, ("m", "v", "v_max"), weight_decay, now if decoupled else None, maximize
    )


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
        lr: the learning rate, above 0, or a schedule.
        betas: how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0. With 0, a parameter whose gradient is
            0 becomes nan, as in torch.
        weight_decay: the factor of p that is added to dp.
        amsgrad: whether the largest v so far is used.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 1; Reddi,
    Kale and Kumar, "On the Convergence of Adam and Beyond", 2018.

    Example:
        >>> optimizer, params = adam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    update_adam = partial(update, name="adam", decoupled=False)
    return bare(Optimizer, init, update_adam, partial(adjoint, decoupled=False))


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
        lr: the learning rate, above 0, or a schedule.
        betas: how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0. With 0, a parameter whose gradient is
            0 becomes nan, as in torch.
        weight_decay: how strongly p decays.
        amsgrad: whether the largest v so far is used.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", 2019, algorithm 2.

    Example:
        >>> optimizer, params = adamw(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.0]),), optimizer.init(params))[0]
        (tensor([0.9950]),)
    """
    update_adamw = partial(update, name="adamw", decoupled=True)
    return bare(Optimizer, init, update_adamw, partial(adjoint, decoupled=True))
