"""Lion: steps of equal size in every element, along the sign of a momentum.

With m starting at 0,

    p <- (1 - lr weight_decay) p - lr sign(b1 m + (1 - b1) dp)
    m <- b2 m + (1 - b2) dp
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import Decay, NonNegative, Params, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import running_mean, take_step

NO_ADJOINT: Final = "each of its steps is the sign of a momentum, whose derivative is 0 or none"


@record
class LionState:
    """The step for a schedule, else None, and the momentum."""

    step: Tensor | None
    m: Params


def rules(at: At, *, betas: tuple[float, float]) -> Rules:
    """Compute p <- p - lr sign(b1 m + (1 - b1) dp), then the new m."""
    b1, b2 = betas

    def rule(p: Tensor, dp: Tensor, m: Tensor) -> Row:
        return take_step(p, torch.sign(running_mean(m, dp, b1)), at.lr), running_mean(m, dp, b2)

    return rule, None


@constructor
def lion(
    lr: LearningRate = 1e-4,
    betas: tuple[Decay, Decay] = (0.9, 0.99),
    weight_decay: NonNegative = 0.0,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Lion: p <- (1 - lr weight_decay) p - lr sign(b1 m + (1 - b1) dp).

    Then m <- b2 m + (1 - b2) dp. Every element changes by lr. So lr should be 3 to 10 times smaller
    than Adam's, and weight_decay as many times larger.

    Args:
        betas: b1 and b2, how much of m counts in the direction, and how much of it is kept.
        weight_decay: how strongly p decays.

    Source: Chen et al., "Symbolic Discovery of Optimization Algorithms", 2023, algorithm 2.

    Example:
        >>> optimizer, params = lion(0.5), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.5000]),)
    """
    return leafwise(LionState, rules, {"m": 0.0}, no_adjoint=NO_ADJOINT, decoupled=True)
