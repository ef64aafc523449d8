"""One optimizer step for several gradients.

Adjoint. Where a step is due, the sum's bar is the inner optimizer's bar of the mean, divided by k.
In between, params and the inner state stay, and so do their bars. In both cases bar dp is the bar
of the sum.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Params, PositiveInt, bare, constructor, record, tree
from lincoln_fn.optim.leaves import check_state, fill_like, no_steps, states_in, update_leaves
from lincoln_fn.optim.optimizer import Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.transforms import Transform, adjoint_of, transform


@record
class AccumulateState:
    """How many gradients were added up, their sum, and the state of the inner optimizer."""

    count: Tensor
    total: Params
    inner: OptimizerState


def is_waiting(state: OptimizerState, steps: int) -> bool:
    """Return whether an optimizer's state still adds up what it was given in the last steps."""
    return any(int(each.count) >= steps for each in states_in(state, AccumulateState))


def _init(inner: Optimizer, params: Params) -> AccumulateState:
    return AccumulateState(no_steps(params), fill_like(params), inner.init(params))


def _update(
    inner: Optimizer, params: Params, grads: Params, state: AccumulateState, *, k: int
) -> tuple[Params, AccumulateState]:
    """Add up the gradients; after every k, the inner optimizer takes a step with their mean."""
    check_state("accumulate", state, AccumulateState)
    is_due = state.count == k - 1
    mean, total = update_leaves("accumulate", partial(_add, k), params, grads, state.total)
    stepped = inner.update(params, mean, state.inner)
    # Both outcomes are computed: a branch on a tensor's value cannot be traced.
    params, kept = tree.map(
        lambda new, old: torch.where(is_due, new, old), stepped, (params, state.inner)
    )
    total = tree.map(lambda s: torch.where(is_due, 0, s), total)
    return params, AccumulateState((state.count + 1) % k, total, kept)


def _add(k: int, p: Tensor, dp: Tensor, total: Tensor) -> tuple[Tensor, Tensor]:
    total = total + dp
    return total / k, total


def _adjoint(
    inner: Optimizer, params: Params, grads: Params, state: AccumulateState,
    params_bar: Params, state_bar: AccumulateState, *, k: int,
) -> Adjoints:  # fmt: skip
    """Undo the step if it was due, else nothing but the sum."""
    is_due = state.count == k - 1
    mean, _ = update_leaves("accumulate", partial(_add, k), params, grads, state.total)
    adjoints = adjoint_of(inner)(params, mean, state.inner, params_bar, state_bar.inner)

    # As in the update, a branch on a tensor's value could not be traced.
    def chosen(due: Tensor, otherwise: Tensor) -> Tensor:
        return torch.where(is_due, due, otherwise)

    def of_total(p: Tensor, due: Tensor, old: Tensor) -> tuple[Tensor, Tensor]:
        bar = chosen(due / k, old)
        return bar, bar

    grads_bar, total_bar = update_leaves(
        "accumulate", of_total, params, adjoints.grads, state_bar.total
    )
    params_bar = tree.map(chosen, adjoints.params, params_bar)
    inner_bar = tree.map(chosen, adjoints.state, state_bar.inner)
    derivatives = {name: chosen(of, of * 0) for name, of in adjoints.hyperparameters.items()}
    new = AccumulateState(state.count, total_bar, inner_bar)
    return Adjoints(params_bar, grads_bar, new, derivatives)


@constructor
def accumulate(k: PositiveInt) -> Transform:
    """Take a step only at every k-th gradient, with the mean of the last k.

    In between, the inner optimizer's state and the step count of a schedule do not change.

    Example:
        >>> optimizer, p = lf.optim.chain(accumulate(2), lf.optim.sgd(1.0)), torch.tensor(0.0)
        >>> p, state = optimizer.update(p, torch.tensor(1.0), optimizer.init(p))
        >>> p, optimizer.update(p, torch.tensor(3.0), state)[0]
        (tensor(0.), tensor(-2.))
    """
    return bare(transform, _init, _update, _adjoint)
