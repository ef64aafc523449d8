"""Adadelta: steps in the units of the parameters, scaled by running means."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layer import Params, call_repr
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import check_common, descended, rate, require, slope
from lincoln_fn.optim.walk import no_steps, walk, zeros_like
from lincoln_fn.record import record


@record
class AdadeltaState:
    """The step for a schedule, else None, and the running means of dp^2 and of d^2."""

    step: Tensor | None
    square: Params
    moved: Params


def adadelta(
    lr: LearningRate = 1.0,
    rho: float = 0.9,
    eps: float = 1e-6,
    weight_decay: float = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Adadelta: d = sqrt(u + eps) / sqrt(s + eps) dp, p <- p - lr d.

    Here s <- rho s + (1 - rho) dp^2 goes before, and u <- rho u + (1 - rho) d^2 after.

    Args:
        lr: the learning rate, above 0, or a schedule.
        rho: how much of the last s and u stays.
        eps: keeps the denominator from 0, and the first steps too.
        weight_decay: weight_decay p is added to dp.
        maximize: whether to climb.

    Returns:
        The optimizer, whose state is an `AdadeltaState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Zeiler, "ADADELTA: An Adaptive Learning Rate Method", 2012, algorithm 1.

    Example:
        >>> optimizer, params = adadelta(eps=1.0, rho=0.0), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([0.75]),), optimizer.init(params))[0]
        (tensor([0.4000]),)
    """
    check_common("adadelta", lr, eps=eps, weight_decay=weight_decay)
    require("adadelta", "rho in [0, 1]", rho, 0 <= rho <= 1)

    def init(params: Params) -> AdadeltaState:
        step = no_steps(params) if callable(lr) else None
        return AdadeltaState(step, zeros_like(params), zeros_like(params))

    def update(params: Params, grads: Params, state: AdadeltaState) -> tuple[Params, AdadeltaState]:
        now = rate(lr, state.step)

        def rule(p: Tensor, dp: Tensor, s: Tensor, u: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            dp = slope(p, dp, weight_decay, maximize)
            s = torch.addcmul(s * rho, dp, dp, value=1 - rho)
            d = (u + eps).sqrt_().div_((s + eps).sqrt_()).mul_(dp)
            return descended(p, d, now), s, torch.addcmul(u * rho, d, d, value=1 - rho)

        params, *kept = walk("adadelta", rule, params, grads, state.square, state.moved)
        return params, AdadeltaState(None if state.step is None else state.step + 1, *kept)

    name = call_repr(
        "adadelta",
        lr,
        rho=(rho, 0.9),
        eps=(eps, 1e-6),
        weight_decay=(weight_decay, 0.0),
        maximize=(maximize, False),
    )
    return Optimizer(name, init, update)
