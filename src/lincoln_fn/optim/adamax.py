"""Adamax: Adam with the largest gradient of late in the place of their mean square."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layer import Params, call_repr
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import check_common, rate, slope
from lincoln_fn.optim.walk import no_steps, walk, zeros_like
from lincoln_fn.record import record


@record
class AdamaxState:
    """How many steps were taken, the running mean of dp, and the largest |dp|, which fades."""

    step: Tensor
    m: Params
    u: Params


def adamax(
    lr: LearningRate = 2e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adamax: u <- max(b2 u, |dp| + eps), p <- p - lr m / ((1 - b1^t) u).

    Here m <- b1 m + (1 - b1) dp, and t counts from 1.

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: b1 and b2, how much of the last m and of the last u stays.
        eps: keeps the denominator from 0.
        weight_decay: weight_decay p is added to dp.
        maximize: whether to climb.

    Returns:
        The optimizer, whose state is an `AdamaxState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Kingma and Ba, "Adam: A Method for Stochastic Optimization", 2015, algorithm 2.

    Example:
        >>> optimizer, params = adamax(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    check_common("adamax", lr, betas=betas, eps=eps, weight_decay=weight_decay)
    b1, b2 = betas

    def init(params: Params) -> AdamaxState:
        return AdamaxState(no_steps(params), zeros_like(params), zeros_like(params))

    def update(params: Params, grads: Params, state: AdamaxState) -> tuple[Params, AdamaxState]:
        step = state.step + 1
        scale = (b1 ** step.double() - 1) / rate(lr, state.step)

        def rule(p: Tensor, dp: Tensor, m: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            dp = slope(p, dp, weight_decay, maximize)
            m = torch.lerp(m, dp, 1 - b1)
            u = torch.maximum(u * b2, dp.abs().add_(eps))
            return torch.addcdiv(p, m, u * scale), m, u

        params, *kept = walk("adamax", rule, params, grads, state.m, state.u)
        return params, AdamaxState(step, *kept)

    name = call_repr(
        "adamax",
        lr,
        betas=(betas, (0.9, 0.999)),
        eps=(eps, 1e-8),
        weight_decay=(weight_decay, 0.0),
        maximize=(maximize, False),
    )
    return Optimizer(name, init, update)
