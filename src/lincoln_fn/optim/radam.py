"""RAdam: Adam, without the scaling until the mean square averages enough gradients.

With m, v and m' as in Adam, and n_t the number of gradients that v averages,

    n = 2 / (1 - b2) - 1
    n_t = n - 2 t b2^t / (1 - b2^t)
    r = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t)) sqrt(1 - b2^t)
    p <- p - lr r m' / (sqrt(v) + eps)    if n_t > 5
    p <- p - lr m'                        otherwise

Adjoint. Adam's, with a = 0, b = r / (1 - b1^t) and c = 1; or b = 1 / (1 - b1^t), s = 1 and no bar v
in the first steps.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, constructor, record
from lincoln_fn.optim.adam import moment_rules
from lincoln_fn.optim.leafwise import At, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer


@record
class RadamState:
    """How many steps were taken, and both running means."""

    step: Tensor
    m: Params
    v: Params


def rules(at: At, *, betas: tuple[float, float], eps: float) -> Rules:
    """Compute p <- p - lr r m' / (sqrt(v) + eps) where n_t > 5, else p <- p - lr m'."""
    (b1, b2), t = betas, at.t
    n = 2 / (1 - b2) - 1
    n_t = n - 2 * t * b2**t / (1 - b2**t)
    is_scaled = n_t > 5
    square = (n_t - 4) * (n_t - 2) * n / ((n - 4) * (n - 2) * n_t) * (1 - b2**t)
    k = torch.where(is_scaled, square, 1.0).sqrt() / (1 - b1**t)
    return moment_rules(at.lr, betas, eps, b=k, c=1.0, is_scaled=is_scaled)


@constructor
def radam(
    lr: LearningRate = 1e-3,
    betas: tuple[Decay, Decay] = (0.9, 0.999),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 0.0,
    decoupled_weight_decay: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make RAdam: p <- p - lr r m' / (sqrt(v) + eps), or p - lr m' in the first steps.

    m, v and m' are Adam's. With n = 2 / (1 - b2) - 1 and n_t = n - 2 t b2^t / (1 - b2^t), the
    number of gradients that v averages, the scaling is used as soon as n_t > 5, with

        r = sqrt((n_t - 4) (n_t - 2) n / ((n - 4) (n - 2) n_t)) sqrt(1 - b2^t)

    Args:
        betas: b1 and b2, how much of m and of v is kept from step to step.
        decoupled_weight_decay: whether p is multiplied by 1 - lr weight_decay, as by AdamW.

    Source: Liu et al., "On the Variance of the Adaptive Learning Rate and Beyond", 2020,
    algorithm 2.

    Example:
        >>> optimizer, params = radam(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([-1.]),)
    """
    return leafwise(RadamState, rules, {"step": True, "m": 0.0, "v": 0.0})
