"""Slow parameters that follow the optimizer's, and from which it begins again at every k-th step.

With the inner optimizer's step p -> p', and slow parameters s that start at p, at every k-th step

    s <- s + a (p' - s)
    p <- s

Adjoint. At such a step bar s and bar p are of the same tensor, so

    bar p' = a (bar s + bar p)
    bar s <- (1 - a) (bar s + bar p)

and in between bar p' = bar p; then the inner optimizer's, from bar p'.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Params, PositiveInt, Probability, bare, constructor, evolve, record
from lincoln_fn.optim.leaves import check_state, no_steps, state_tree, update_leaves
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.transforms import Transform, adjoint_of, transform


@record
class LookaheadState:
    """How many steps were taken since the last k-th, s, and the state of the inner optimizer."""

    count: Tensor
    slow: Params
    inner: OptimizerState


def _init(inner: Optimizer, params: Params) -> LookaheadState:
    return LookaheadState(no_steps(params), state_tree(torch.clone, params), inner.init(params))


def _update(
    inner: Optimizer, params: Params, grads: Params, state: LookaheadState,
    *, sync_period: int, slow_step_size: float,
) -> tuple[Params, LookaheadState]:  # fmt: skip
    check_state("lookahead", state, LookaheadState)
    is_due = state.count == sync_period - 1

    def rule(p: Tensor, _: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
        nearer = torch.lerp(slow, p, slow_step_size)
        return torch.where(is_due, nearer, p), torch.where(is_due, nearer, slow)

    params, kept = inner.update(params, grads, state.inner)
    params, slow = update_leaves("lookahead", rule, params, params, state.slow)
    return params, LookaheadState((state.count + 1) % sync_period, slow, kept)


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: LookaheadState, params_bar: Params,
    state_bar: LookaheadState, *, sync_period: int, slow_step_size: float,
) -> Adjoints:  # fmt: skip
    """Compute bar p' and bar s, then undo the inner step."""
    is_due = state.count == sync_period - 1

    def rule(p: Tensor, _: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
        both = p + slow
        of_slow = torch.where(is_due, (1 - slow_step_size) * both, slow)
        return torch.where(is_due, slow_step_size * both, p), of_slow

    params_bar, slow_bar = update_leaves("lookahead", rule, params_bar, params_bar, state_bar.slow)
    adjoints = adjoint_of(inner)(params, grads, state.inner, params_bar, state_bar.inner)
    return evolve(adjoints, state=LookaheadState(state.count, slow_bar, adjoints.state))


@constructor
def lookahead(sync_period: PositiveInt = 5, slow_step_size: Probability = 0.5) -> Transform:
    """Move back at every k-th step, towards where the last k began: s <- s + a (p - s), p <- s.

    Args:
        sync_period: k, at least 1.
        slow_step_size: a, the share of the way that is kept.

    Source: Zhang et al., "Lookahead Optimizer: k steps forward, 1 step back", 2019, algorithm 1.

    Example:
        >>> optimizer, p = lf.optim.chain(lookahead(2), lf.optim.sgd(1.0)), torch.tensor(0.0)
        >>> p, state = optimizer.update(p, torch.tensor(4.0), optimizer.init(p))
        >>> p, optimizer.update(p, torch.tensor(4.0), state)[0]
        (tensor(-4.), tensor(-4.))
    """
    return bare(transform, _init, _update, _adjoint)
