"""RMSprop: steps scaled by a running mean of the squared gradient.

With s starting at 0,

    s <- alpha s + (1 - alpha) dp^2
    p <- p - lr dp / (sqrt(s) + eps)

The centered variant uses s - m^2 instead of s, with m <- alpha m + (1 - alpha) dp. With momentum,

    b <- momentum b + dp / (sqrt(s) + eps)
    p <- p - lr b
"""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import record
from lincoln_fn.errors.arguments import NonNegative, Probability
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, update_leaves
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import (
    learning_rate,
    regularize_gradient,
    root,
    running_mean,
    take_scaled_step,
    take_step,
)


@record
class RmspropState:
    """The running mean of dp^2, and the other state; None for a tensor that is not kept.

    `step` is kept for a schedule, `mean` (of dp) for the centered variant.
    """

    step: Tensor | None
    square: Params
    mean: Params | None
    momentum: Params | None


def init(params: Params, *, lr: LearningRate, momentum: float, centered: bool) -> RmspropState:
    """Make the state, filled with 0."""
    return RmspropState(
        no_steps(params) if callable(lr) else None,
        fill_like(params),
        fill_like(params) if centered else None,
        fill_like(params) if momentum else None,
    )


def update(
    params: Params,
    grads: Params,
    state: RmspropState,
    *,
    lr: LearningRate,
    alpha: float,
    eps: float,
    weight_decay: float,
    momentum: float,
    centered: bool,
    maximize: bool,
) -> tuple[Params, RmspropState]:
    """Compute s <- alpha s + (1 - alpha) dp^2, p <- p - lr dp / (sqrt(s) + eps)."""
    check_state(
        "rmsprop", state, RmspropState, step=callable(lr), mean=centered, momentum=momentum > 0
    )
    now = learning_rate(lr, state.step)

    def rule(
        p: Tensor, dp: Tensor, s: Tensor, m: Tensor | None, b: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        dp = regularize_gradient(p, dp, weight_decay, maximize)
        s = running_mean(s, dp * dp, alpha)
        m = None if m is None else running_mean(m, dp, alpha)
        variance = s if m is None else s - m * m
        scale = root(variance) + eps
        if b is None:
            return take_scaled_step(p, dp, scale, now), s, m, None
        b = momentum * b + dp / scale
        return take_step(p, b, now), s, m, b

    trees = (state.square, state.mean, state.momentum)
    params, *kept = update_leaves("rmsprop", rule, params, grads, *trees)
    return params, RmspropState(None if state.step is None else state.step + 1, *kept)


@constructor
def rmsprop(
    lr: LearningRate = 1e-2,
    alpha: Probability = 0.99,
    eps: NonNegative = 1e-8,
    weight_decay: NonNegative = 0.0,
    momentum: NonNegative = 0.0,
    centered: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make RMSprop: s <- alpha s + (1 - alpha) dp^2, p <- p - lr dp / (sqrt(s) + eps).

    With momentum, b <- momentum b + dp / (sqrt(s) + eps) and p <- p - lr b. The centered variant
    uses s - m^2 instead of s, with m the running mean of dp.

    Args:
        lr: the learning rate, above 0, or a schedule.
        alpha: how much of s is kept from step to step.
        eps: is added to the denominator, so that it is not 0.
        weight_decay: the factor of p that is added to dp.
        momentum: how much of b is kept from step to step.
        centered: whether to divide by the root of the variance, not of the mean square.
        maximize: whether to maximize the loss.

    Returns:
        The optimizer, whose state is a `RmspropState`.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Source: Hinton, "Neural Networks for Machine Learning", 2012, lecture 6e; Graves, "Generating
    Sequences With Recurrent Neural Networks", 2013, for the centered variant.

    Example:
        >>> optimizer, params = rmsprop(0.5, alpha=0.75), (torch.tensor([1.0]),)
        >>> optimizer.update(params, (torch.tensor([4.0]),), optimizer.init(params))[0]
        (tensor([0.]),)
    """
    return bare(Optimizer, init, update)
