"""RAdam: Adam whose scaling waits until the mean square is worth trusting."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layer import Params, call_repr
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import check_common, descended, rate, shrunk, slope
from lincoln_fn.optim.walk import no_steps, walk, zeros_like
from lincoln_fn.record import record


@record
class RadamState:
    """How many steps were taken, and both running means."""

    step: Tensor
    m: Params
    v: Params


def radam(
    lr: LearningRate = 1e-3,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
    weight_decay: float = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make RAdam: p <- p - lr r m' / (sqrt(v) + eps), or p - lr m' while v is too young.

    m, v and m' are Adam's. With n = 2 / (1 - b2) - 1 and n_t = n - 2 t b2^t / (1 - b2^t), the
    number of gradients that v averages, the scaling is used as soon as n_t > 5, with

        r = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t)) sqrt(1 - b2^t)

    Args:
        lr: the learning rate, above 0, or a schedule.
        betas: b1 and b2, how much of the last m and of the last v stays.
        eps: keeps the denominator from 0.
        weight_decay: weight_decay p is added to dp, or p is shrunk by 1 - lr weight_decay.
        decoupled_weight_decay: whether p is shrunk.
        maximize: whether to climb.

    Returns:
        The optimizer, whose state is a `RadamState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020,
    algorithm 2.

    Example:
        >>> optimizer, params = radam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([-1.]),)
    """
    check_common("radam", lr, betas=betas, eps=eps, weight_decay=weight_decay)
    b1, b2 = betas
    n = 2 / (1 - b2) - 1

    def init(params: Params) -> RadamState:
        return RadamState(no_steps(params), zeros_like(params), zeros_like(params))

    def update(params: Params, grads: Params, state: RadamState) -> tuple[Params, RadamState]:
        now, step = rate(lr, state.step), state.step + 1
        t = step.double()
        n_t = n - 2 * t * b2**t / (1 - b2**t)
        grown = n_t > 5
        square = (n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t) * (1 - b2**t)
        scale = now / (1 - b1**t) * torch.where(grown, square, 1.0).sqrt()

        def rule(p: Tensor, dp: Tensor, m: Tensor, v: Tensor) -> tuple[Tensor, Tensor, Tensor]:
            dp = slope(p, dp, 0.0 if decoupled_weight_decay else weight_decay, maximize)
            p = shrunk(p, now, weight_decay) if decoupled_weight_decay else p
            m = torch.lerp(m, dp, 1 - b1)
            v = torch.addcmul(v * b2, dp, dp, value=1 - b2)
            return descended(p, m / torch.where(grown, v.sqrt().add_(eps), 1.0), scale), m, v

        params, *kept = walk("radam", rule, params, grads, state.m, state.v)
        return params, RadamState(step, *kept)

    name = call_repr(
        "radam",
        lr,
        betas=(betas, (0.9, 0.999)),
        eps=(eps, 1e-8),
        weight_decay=(weight_decay, 0.0),
        decoupled_weight_decay=(decoupled_weight_decay, False),
        maximize=(maximize, False),
    )
    return Optimizer(name, init, update)
