"""A running mean of the parameters, which often predicts better than the last parameters.

Adjoint. For a <- decay a + (1 - decay) p with the new p,

    bar p += (1 - decay) bar a
    bar a <- decay bar a
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Params, bare, constructor, evolve, record, tree
from lincoln_fn.optim.leaves import check_state, find_state, state_tree, update_leaves
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.rules import running_mean
from lincoln_fn.optim.transforms import Transform, adjoint_of, transform


@record
class EmaState:
    """The running mean of the parameters, and the state of the inner optimizer."""

    mean: Params
    inner: OptimizerState


def _init(inner: Optimizer, params: Params) -> EmaState:
    return EmaState(state_tree(torch.clone, params), inner.init(params))


def _update(
    inner: Optimizer, params: Params, grads: Params, state: EmaState, *, decay: float
) -> tuple[Params, EmaState]:
    check_state("ema", state, EmaState)

    def rule(p: Tensor, _: Tensor, mean: Tensor) -> tuple[Tensor, Tensor]:
        return p, running_mean(mean, p, decay)

    params, kept = inner.update(params, grads, state.inner)
    _, mean = update_leaves("ema", rule, params, params, state.mean)
    return params, EmaState(mean, kept)


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: EmaState, params_bar: Params,
    state_bar: EmaState, *, decay: float,
) -> Adjoints:  # fmt: skip
    """Compute bar p += (1 - decay) bar a, bar a <- decay bar a, then undo the inner step."""
    means = iter(tree.leaves(state_bar.mean))
    params_bar = tree.map(lambda bar: bar + (1 - decay) * next(means), params_bar)
    adjoints = adjoint_of(inner)(params, grads, state.inner, params_bar, state_bar.inner)
    mean_bar = tree.map(lambda bar: decay * bar, state_bar.mean)
    return evolve(adjoints, state=EmaState(mean_bar, adjoints.state))


@constructor
def ema(decay: Decay) -> Transform:
    """Keep a running mean of the parameters: a <- decay a + (1 - decay) p after each step.

    It starts from the initial parameters, and does not change the steps. `ema_params` reads it.

    Source: Polyak and Juditsky, "Acceleration of Stochastic Approximation by Averaging", 1992, with
    a running mean instead of the plain one.

    Example:
        >>> optimizer, p = lf.optim.chain(ema(0.75), lf.optim.sgd(1.0)), torch.tensor(0.0)
        >>> p, state = optimizer.update(p, torch.tensor(8.0), optimizer.init(p))
        >>> p, ema_params(state, p)
        (tensor(-8.), tensor(-2.))
    """
    return bare(transform, _init, _update, _adjoint)


def ema_params(state: OptimizerState, params: Params) -> Params:
    """Read the running mean of the parameters from an optimizer's state.

    Args:
        state: of an optimizer with `ema` anywhere in its chain.
        params: the parameters of the same step; running statistics and keys are taken from them.

    Example:
        >>> ema_params(EmaState((torch.tensor(1.0),), ()), (torch.tensor(2.0),))
        (tensor(1.),)
    """
    mean = find_state("ema_params", state, EmaState, "running mean").mean
    return update_leaves("ema_params", lambda p, _, mean: (mean, mean), params, params, mean)[0]
