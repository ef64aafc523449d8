"""Stochastic gradient descent, with momentum."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.layer import Params, call_repr
from lincoln_fn.optim.optimizer import LearningRate, Optimizer, OptimizerState
from lincoln_fn.optim.rules import check_common, descended, rate, require, slope
from lincoln_fn.optim.walk import Columns, no_steps, walk, walk_lists, zeros_like
from lincoln_fn.record import record


@record
class SgdState:
    """The momentum, and the step where the update depends on it; None for what is not kept."""

    step: Tensor | None
    momentum: Params | None


def sgd(
    lr: LearningRate = 1e-3,
    momentum: float = 0.0,
    dampening: float = 0.0,
    weight_decay: float = 0.0,
    nesterov: bool = False,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make stochastic gradient descent: b <- momentum b + (1 - dampening) dp, p <- p - lr b.

    The first b is dp. Nesterov's variant moves along dp + momentum b.

    Args:
        lr: the learning rate, above 0, or a schedule.
        momentum: how much of the last b stays, at least 0.
        dampening: how much of dp is left out of b.
        weight_decay: weight_decay p is added to dp.
        nesterov: whether to look ahead; needs momentum and no dampening.
        maximize: whether to climb.

    Returns:
        The optimizer. Its state is () for a number as lr and no momentum.

    Raises:
        ValueError: if a hyperparameter is out of its range.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Example:
        >>> optimizer = sgd(0.5)
        >>> optimizer.update((torch.tensor([1.0]),), (torch.tensor([4.0]),), ())
        ((tensor([-1.]),), ())
    """
    check_common("sgd", lr, weight_decay=weight_decay)
    require("sgd", "momentum of at least 0", momentum, momentum >= 0)
    ready = not nesterov or (momentum > 0 and dampening == 0)
    require("sgd", "momentum and no dampening for nesterov", (momentum, dampening), ready)
    counts = callable(lr) or (momentum > 0 and dampening != 0)

    def init(params: Params) -> OptimizerState:
        if not (counts or momentum):
            return ()
        return SgdState(
            no_steps(params) if counts else None, zeros_like(params) if momentum else None
        )

    def update(
        params: Params, grads: Params, state: OptimizerState
    ) -> tuple[Params, OptimizerState]:
        if isinstance(state, tuple):
            return walk_lists("sgd", straight, params, grads)[0], state
        step, now = state.step, rate(lr, state.step)
        fresh = 1 - dampening * (step > 0).double() if dampening and momentum else None

        def rule(p: Tensor, dp: Tensor, b: Tensor | None) -> tuple[Tensor, Tensor | None]:
            dp = slope(p, dp, weight_decay, maximize)
            if b is None:
                return descended(p, dp, now), None
            if fresh is None:
                b = torch.add(dp, b, alpha=momentum)
            else:
                b = torch.addcmul(b * momentum, dp, fresh)
            return descended(p, dp.add(b, alpha=momentum) if nesterov else b, now), b

        params, b = walk("sgd", rule, params, grads, state.momentum)
        return params, SgdState(None if step is None else step + 1, b)

    def straight(lists: Columns) -> Columns:
        # Written out: in a small network's step, a call of a rule for each leaf would show.
        now, pairs = rate(lr, None), zip(*lists, strict=True)
        return [[descended(p, slope(p, dp, weight_decay, maximize), now) for p, dp in pairs]]

    name = call_repr(
        "sgd",
        lr,
        momentum=(momentum, 0.0),
        dampening=(dampening, 0.0),
        weight_decay=(weight_decay, 0.0),
        nesterov=(nesterov, False),
        maximize=(maximize, False),
    )
    plain = not (callable(lr) or momentum or weight_decay or maximize)
    return Optimizer(name, init, update, float(lr) if plain and not callable(lr) else None)
