"""Shorter steps where a loss no longer falls.

The inner optimizer's step p -> p' is shortened by a factor f, which starts at 1:

    p <- p + f (p' - p)

f falls where the loss that `plateau_step` is given has not been better than the best so far, by a
share of that, for more than `patience` times in a row.

Adjoint. The factor counts as a constant. bar p' = f bar p, then the inner optimizer's, and

    bar p += (1 - f) bar p of the new p
"""

from __future__ import annotations

import sys
from typing import Any, TypeVar

import optree
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Decay, NonNegativeInt, Params, Probability, bare, constructor, evolve
from lincoln_fn.optim.leaves import check_state, find_state, no_steps
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.transforms import Transform, adjoint_of, transform

S = TypeVar("S")
# Any: what it returns is of the kind of its tree.
_map: Any = optree.tree_map


@core.record
class PlateauState:
    """f, the best loss, how many were worse in a row, how many do not count, the inner state."""

    scale: Tensor
    best: Tensor
    worse: Tensor
    waiting: Tensor
    inner: OptimizerState
    # factor, patience, threshold, cooldown and min_scale, in one field as older checkpoints have it
    options: tuple[float, ...] = core.static()


@core.takes_all
def _init(inner: Optimizer, params: Params, **options: float) -> PlateauState:
    count = no_steps(params)
    one = torch.ones_like(count, dtype=torch.float64)
    best = one * sys.float_info.max
    kept = inner.init(params)
    return PlateauState(one, best, count, count.clone(), kept, (*options.values(),))


def _update(
    inner: Optimizer, params: Params, grads: Params, state: PlateauState
) -> tuple[Params, PlateauState]:
    check_state("reduce_on_plateau", state, PlateauState)
    moved, kept = inner.update(params, grads, state.inner)
    params = core.tree.map(lambda p, n: torch.lerp(p, n, state.scale.to(p.dtype)), params, moved)
    # Copies: a step may update in place what it was given.
    own = core.tree.map(torch.clone, evolve(state, inner=()))
    return params, evolve(own, inner=kept)


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: PlateauState, params_bar: Params,
    state_bar: PlateauState,
) -> Adjoints:  # fmt: skip
    """Undo the inner step of bar p' = f bar p, and add (1 - f) bar p."""
    moved_bar = core.tree.map(lambda bar: state.scale.to(bar.dtype) * bar, params_bar)
    adjoints = adjoint_of(inner)(params, grads, state.inner, moved_bar, state_bar.inner)
    of_p = core.tree.map(
        lambda p, bar, part: p + (bar - part), adjoints.params, params_bar, moved_bar
    )
    return evolve(adjoints, params=of_p, state=evolve(state, inner=adjoints.state))


@constructor
def reduce_on_plateau(
    factor: Decay = 0.1,
    patience: NonNegativeInt = 10,
    threshold: Decay = 1e-4,
    cooldown: NonNegativeInt = 0,
    min_scale: Probability = 0.0,
) -> Transform:
    """Shorten all steps where a loss no longer falls, as torch's ReduceLROnPlateau does.

    `plateau_step` gives the loss: in each step, or once an epoch, such as that of validation data.

    Args:
        factor: what the steps are multiplied by, below 1.
        patience: how many losses in a row may be no better before.
        threshold: a loss is better below best (1 - threshold).
        cooldown: how many losses do not count after that.
        min_scale: the steps' least share of those of the optimizer.

    Example:
        >>> optimizer = lf.optim.chain(reduce_on_plateau(0.5, patience=0), lf.optim.sgd(1.0))
        >>> state = optimizer.init(torch.tensor(0.0))
        >>> state = plateau_step(plateau_step(state, torch.tensor(3.0)), torch.tensor(3.0))
        >>> optimizer.update(torch.tensor(0.0), torch.tensor(4.0), state)[0]
        tensor(-2.)
    """
    return bare(transform, _init, _update, _adjoint)


def plateau_step(state: S, value: Tensor | float) -> S:
    """Tell `reduce_on_plateau` a loss, which it keeps in the state.

    Args:
        state: of an optimizer with `reduce_on_plateau` anywhere in its chain, or a `TrainState`.
        value: the loss, one number.

    Returns:
        The same state, with the steps' factor for what comes.

    Example:
        >>> optimizer = lf.optim.chain(reduce_on_plateau(0.5, patience=0), lf.optim.sgd(1.0))
        >>> state = optimizer.init(torch.tensor(0.0))
        >>> [float((state := plateau_step(state, value)).scale) for value in (3.0, 2.0, 2.0, 2.0)]
        [1.0, 1.0, 0.5, 0.25]
    """
    own = find_state("plateau_step", state, PlateauState, "reduce_on_plateau")
    factor, patience, threshold, cooldown, min_scale = own.options
    value = torch.as_tensor(value).detach().to(own.best)
    is_better = value < own.best * (1 - threshold)
    worse = torch.where(is_better | (own.waiting > 0), 0, own.worse + 1)
    is_due = worse > patience
    new = evolve(
        own,
        scale=torch.where(is_due, (own.scale * factor).clamp(min=min_scale), own.scale),
        best=torch.where(is_better, value, own.best),
        worse=torch.where(is_due, 0, worse),
        waiting=torch.where(is_due, int(cooldown), (own.waiting - 1).clamp(min=0)),
    )
    told: S = _map(
        lambda node: new if node is own else node, state,
        is_leaf=lambda node: node is own, namespace=core.TRAINED,
    )  # fmt: skip
    return told
