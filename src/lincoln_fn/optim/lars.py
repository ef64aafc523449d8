"""LARS: gradient descent with momentum, each parameter's steps scaled to its own size.

With c the trust coefficient, and b starting at 0,

    u = dp + weight_decay p
    s = lr c |p| / |u| u
    b <- momentum b + s
    p <- p - b

The factor c |p| / |u| is 1 where |p| or |u| is 0. Nesterov's variant takes p - s - momentum b.

Adjoint. With f the factor, from the last line up,

    bar b -= bar p, or for Nesterov's variant momentum bar p
    bar s = bar b, and for Nesterov's variant bar b - bar p
    bar momentum = sum b_old bar b, and for Nesterov's variant -sum b bar p
    bar lr = f sum u bar s
    bar u and bar p as LAMB's, of lr bar s
    bar dp = bar u
    bar b <- momentum bar b
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Momentum, NonNegative, Params, constructor, record
from lincoln_fn.optim.lamb import trust_back, trust_ratio
from lincoln_fn.optim.leafwise import At, Row, Rules, leafwise
from lincoln_fn.optim.leaves import check_whole
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import add_scaled


@record
class LarsState:
    """The step for a schedule, else None, and the momentum."""

    step: Tensor | None
    momentum: Params


def rules(
    at: At, *, momentum: float, weight_decay: float | Tensor, trust_coefficient: float,
    nesterov: bool,
) -> Rules:  # fmt: skip
    """Compute b <- momentum b + lr f u, p <- p - b."""

    def moved(p: Tensor, dp: Tensor, b: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Compute u, f, s and the new b."""
        u = add_scaled(dp, p, weight_decay)
        f = trust_ratio(p, u, trust_coefficient)
        s = at.lr * f * u
        return u, f, s, momentum * b + s

    def rule(p: Tensor, dp: Tensor, b: Tensor) -> Row:
        _, _, s, b = moved(p, dp, b)
        return p - (s + momentum * b if nesterov else b), b

    def adjoint(p: Tensor, dp: Tensor, b: Tensor, p_bar: Tensor, b_bar: Tensor) -> Row:
        u, f, _, new_b = moved(p, dp, b)
        b_bar = b_bar - (momentum * p_bar if nesterov else p_bar)
        s_bar = b_bar - p_bar if nesterov else b_bar
        of_momentum = b * b_bar - (new_b * p_bar if nesterov else 0)
        u_bar, of_p = trust_back(p, u, f, at.lr * s_bar)
        products = {"lr": f * u * s_bar, "momentum": of_momentum, "weight_decay": p * u_bar}
        return p_bar + of_p + weight_decay * u_bar, u_bar, momentum * b_bar, products

    return rule, adjoint


@constructor
def lars(
    lr: LearningRate = 1e-3,
    momentum: Momentum = 0.9,
    weight_decay: NonNegative = 0.0,
    trust_coefficient: NonNegative = 1e-3,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make LARS: b <- momentum b + lr c |p| / |u| u, p <- p - b, with u = dp + weight_decay p.

    Each parameter changes by the share lr c of its own size, so lr serves for large batches, too.

    Args:
        weight_decay: the factor of p that is added to the direction.
        trust_coefficient: c.
        nesterov: whether the momentum is Nesterov's.

    Source: You, Gitman and Ginsburg, "Large Batch Training of Convolutional Networks", 2017,
    algorithm 1.

    Example:
        >>> optimizer, params = lars(0.5, trust_coefficient=1.0), torch.tensor([3.0, 4.0])
        >>> optimizer.update(params, torch.tensor([9.0, 0.0]), optimizer.init(params))[0]
        tensor([0.5000, 4.0000])
    """
    return leafwise(LarsState, rules, {"momentum": 0.0}, check=check_whole)
