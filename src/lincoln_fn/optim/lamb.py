"""LAMB: Adam's steps, each parameter's scaled to the parameter's own size.

With m' and v' the unbiased running means of dp and dp^2, as in Adam,

    u = m' / (sqrt(v') + eps) + weight_decay p
    p <- p - lr |p| / |u| u

The factor |p| / |u| is 1 where |p| or |u| is 0.

Adjoint. With f = |p| / |u|, from the last line up,

    bar lr = -f sum u bar p
    bar f = -lr sum u bar p
    bar u = -lr f bar p - f bar f u / |u|^2
    bar p += f bar f p / |p|^2 + weight_decay bar u
    bar weight_decay = sum p bar u

and then as in Adam, from bar u on. Where f is 1 because |p| or |u| is 0, bar f counts as 0.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.errors.arguments import Decay, Epsilon, NonNegative
from lincoln_fn.optim.adam import AdamState
from lincoln_fn.optim.adam import init as init_adam
from lincoln_fn.optim.adjoint import LeafAdjoint, leaf_by_leaf, moments_back
from lincoln_fn.optim.leaves import check_state, check_whole, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    add_scaled,
    learning_rate,
    moments,
    root,
    take_step,
)


def init(params: Params) -> AdamState:
    """Make both means 0."""
    check_whole("lamb", params)
    return init_adam(params, amsgrad=False)


def update(
    params: Params,
    grads: Params,
    state: AdamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> tuple[Params, AdamState]:
    """Compute p <- p - lr |p| / |u| u, and the new means."""
    check_state("lamb", state, AdamState, v_max=False)
    step, now = state.step + 1, learning_rate(lr, state.step)
    c1, c2 = (1 - beta ** step.double() for beta in betas)

    def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        dp = dp.neg() if maximize else dp
        m, v = moments(m, v, dp, betas)
        u = add_scaled((m / c1) / (root(v / c2) + eps), p, weight_decay)
        return take_step(p, u, now * trust_ratio(p, u)), m, v

    params, m, v = update_leaves("lamb", rule, params, grads, state.m, state.v)
    return params, AdamState(step, m, v, None)


@leaf_by_leaf
def adjoint(
    state: AdamState,
    *,
    lr: LearningRate,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float | Tensor,
    maximize: bool,
) -> LeafAdjoint:
    """Compute bar u = -lr f bar p - f bar f u / |u|^2, and what follows from it."""
    now = learning_rate(lr, state.step)
    c1, c2 = (1 - beta ** (state.step + 1).double() for beta in betas)

    def rule(
        p: Tensor, dp: Tensor, m: Tensor, v: Tensor, p_bar: Tensor, m_bar: Tensor, v_bar: Tensor
    ) -> tuple[Any, ...]:  # Any: as `AdjointRule` returns it
        m, v = moments(m, v, dp, betas)
        r = root(v / c2)
        adam = m / (c1 * (r + eps))
        u = adam + weight_decay * p
        f, square, of_u = trust_ratio(p, u), (p * p).sum(), (u * u).sum()
        of_f = torch.where((square > 0) & (of_u > 0), -now * f * (u * p_bar).sum(), 0)  # f bar f
        products = {"lr": -f * u * p_bar}
        u_bar = -now * f * p_bar - torch.where(of_f == 0, 0, of_f / of_u) * u
        p_bar = p_bar + torch.where(of_f == 0, 0, of_f / square) * p + weight_decay * u_bar
        products["weight_decay"] = p * u_bar
        m_bar = m_bar + u_bar / (c1 * (r + eps))
        v_bar = v_bar - torch.where(r == 0, 0, u_bar * adam / (2 * c2 * (r + eps) * r))
        return p_bar, *moments_back(dp, m_bar, v_bar, betas), products

    return LeafAdjoint(rule, ("m", "v"), None, maximize=maximize)


def trust_ratio(p: Tensor, u: Tensor) -> Tensor:
    """Compute |p| / |u|, and 1 where one of them is 0."""
    size, length = torch.linalg.vector_norm(p), torch.linalg.vector_norm(u)
    is_defined = (size > 0) & (length > 0)
    return torch.where(is_defined, size / torch.where(is_defined, length, 1), 1)


@constructor
def lamb(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-6,
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make LAMB: p <- p - lr |p| / |u| u, with u = m' / (sqrt(v') + eps) + weight_decay p.

    Each parameter changes by the share lr of its own size, so lr serves for large batches, too.

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: how much of m and of v is kept from step to step.
        eps: is added to the denominator, so that it is not 0.
        weight_decay: the factor of p that is added to the direction.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is an `AdamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: You et al., "Large Batch Optimization for Deep Learning: Training BERT in 76 minutes",
    2020, algorithm 2.

    Example:
        >>> optimizer, params = lamb(0.5), torch.tensor([3.0, 4.0])
        >>> optimizer.update(params, torch.tensor([9.0, 0.0]), optimizer.init(params))[0]
        tensor([0.5000, 4.0000])
    """
    return bare(Optimizer, init, update, adjoint)
