"""Stochastic gradient descent, with momentum.

The first b is dp. From then on,

    b <- momentum b + (1 - dampening) dp
    p <- p - lr b

Nesterov's variant takes a step along dp + momentum b. Without momentum, b is dp.

Adjoint. With d what the step goes along, and at the first step 1 in place of 1 - dampening,

    bar lr = -sum d bar p
    bar d = -lr bar p
    bar b += bar d, or for Nesterov's variant momentum bar d, and bar dp = bar d
    bar momentum = sum b_old bar b, and for Nesterov's variant sum b bar d
    bar dp += (1 - dampening) bar b
    bar b <- momentum bar b

The penalty dp + weight_decay p adds weight_decay bar dp to bar p, and sum p bar dp is its
derivative in weight_decay.
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core import Momentum, NonNegative, Params, constructor, record, require
from lincoln_fn.optim.leafwise import At, Row, Rules, Start, leafwise
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import add_scaled, take_step


@record
class SgdState:
    """The momentum, and the step if the update depends on it; None if not kept."""

    step: Tensor | None
    momentum: Params | None


def rules(at: At, *, momentum: float, dampening: float, nesterov: bool) -> Rules:
    """Compute b <- momentum b + (1 - dampening) dp, p <- p - lr b."""
    # The factor of dp in b: all of dp at the first step; None for 1.
    share = 1 - dampening * (at.state.step > 0).double() if momentum and dampening else None

    def moved(dp: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """Compute the new b, and what the step goes along."""
        b = add_scaled(dp, b, momentum) if share is None else momentum * b + share * dp
        return b, add_scaled(dp, b, momentum) if nesterov else b

    def rule(p: Tensor, dp: Tensor, b: Tensor | None) -> Row:
        b, d = (None, dp) if b is None else moved(dp, b)
        return take_step(p, d, at.lr), b

    def adjoint(
        p: Tensor, dp: Tensor, b: Tensor | None, p_bar: Tensor, b_bar: Tensor | None
    ) -> Row:
        d_bar = -at.lr * p_bar
        if b is None or b_bar is None:
            return p_bar, d_bar, None, {"lr": -dp * p_bar}
        new_b, d = moved(dp, b)
        b_bar = add_scaled(b_bar, d_bar, momentum if nesterov else 1.0)
        of_momentum = b * b_bar + (new_b * d_bar if nesterov else 0)
        of_b = b_bar if share is None else share * b_bar
        dp_bar = d_bar + of_b if nesterov else of_b
        return p_bar, dp_bar, momentum * b_bar, {"momentum": of_momentum, "lr": -d * p_bar}

    return rule, adjoint


@constructor
def sgd(
    lr: LearningRate = 1e-3,
    momentum: Momentum = 0.0,
    dampening: float = 0.0,
    weight_decay: NonNegative = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make stochastic gradient descent: b <- momentum b + (1 - dampening) dp, p <- p - lr b.

    The first b is dp. Nesterov's variant takes a step along dp + momentum b.

    Args:
        nesterov: whether the momentum is Nesterov's, which needs momentum and no dampening.

    Returns:
        The optimizer. Its state is () for a number as lr and no momentum, else `SgdState`.

    Example:
        >>> optimizer = sgd(0.5)
        >>> optimizer.update((torch.tensor([1.0]),), (torch.tensor([4.0]),), ())
        ((tensor([-1.]),), ())
    """
    ready = not nesterov or (momentum > 0 and dampening == 0)
    require(ready, "sgd", "momentum and no dampening for nesterov", (momentum, dampening))
    counts: Start = {"step": True} if momentum > 0 and dampening != 0 else {}
    return leafwise(SgdState, rules, {**counts, "momentum": 0.0 if momentum > 0 else None})
