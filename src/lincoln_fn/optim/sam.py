"""SAM: steps by the gradient at the worst point near the parameters, for a flat minimum.

Two gradients make one step. The first, dp, moves the parameters to where the loss rises most, at a
distance of rho; there the second is computed, by which the inner optimizer steps from before:

    q = p + rho dp / (|dp| + 1e-12)      with the norm of all gradients as one vector
    p <- p', the inner optimizer's step from p by the gradient at q
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import Params, Positive, bare, constructor, record, tree
from lincoln_fn.optim import leaves
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState
from lincoln_fn.optim.transforms import Transform, norm_of, transform, widened

NO_ADJOINT: Final = "it steps by the gradient at a point that the gradient before has chosen"
_EPS: Final = 1e-12


@record
class SamState:
    """Whether the parameters are at q, as 0 or 1; p; and the state of the inner optimizer."""

    is_away: Tensor
    start: Params
    inner: OptimizerState


def _init(inner: Optimizer, params: Params) -> SamState:
    leaves.check_whole("sam", params)
    return SamState(
        leaves.no_steps(params), leaves.state_tree(torch.clone, params), inner.init(params)
    )


def _update(
    inner: Optimizer, params: Params, grads: Params, state: SamState, *, rho: float
) -> tuple[Params, SamState]:
    leaves.check_state("sam", state, SamState)
    before, start = _before("sam", params, grads, state)
    factor = rho / (norm_of(grads) + _EPS)
    moved = tree.map(lambda p, dp: p + (factor * widened(dp)).to(p.dtype), params, grads)
    # Both outcomes are computed: a branch on a tensor's value cannot be traced.
    params, kept = tree.map(
        lambda new, old: torch.where(state.is_away == 1, new, old),
        inner.update(before, grads, state.inner), (moved, state.inner),
    )  # fmt: skip
    return params, SamState(1 - state.is_away, start, kept)


def _before(name: str, params: Params, grads: Params, state: SamState) -> tuple[Params, ...]:
    """Read p, as parameters and as the state keeps it."""

    def rule(p: Tensor, _: Tensor, start: Tensor) -> tuple[Tensor, Tensor]:
        p = torch.where(state.is_away == 1, start, p)
        return p, p

    return leaves.update_leaves(name, rule, params, grads, state.start)


@constructor
def sam(rho: Positive = 0.05) -> Transform:
    """Step by the gradient at the worst point within rho: every second gradient makes a step.

    Give each batch twice, for the two gradients of one step, as SAM is published, and an even
    number of batches: in between, the parameters are at the worst point. `sam_params` reads them as
    they were before. Running statistics advance at both.

    Args:
        rho: the distance, of all parameters as one vector.

    Source: Foret et al., "Sharpness-Aware Minimization for Efficiently Improving Generalization",
    2021, algorithm 1; the two half steps are those of optax.contrib.sam.

    Example:
        >>> optimizer, p = lf.optim.chain(sam(1.0), lf.optim.sgd(0.5)), torch.tensor(3.0)
        >>> q, state = optimizer.update(p, 2 * p, optimizer.init(p))  # of the loss p^2
        >>> q, optimizer.update(q, 2 * q, state)[0]
        (tensor(4.), tensor(-1.))
    """
    return bare(transform, _init, _update, adjoint=NO_ADJOINT)


def sam_params(state: OptimizerState, params: Params) -> Params:
    """Read the parameters from an optimizer's state, where they are not at the worst point.

    Args:
        state: of an optimizer with `sam` anywhere in its chain.
        params: those of the same step.

    Example:
        >>> state = SamState(torch.tensor(1), torch.tensor(3.0), ())
        >>> sam_params(state, torch.tensor(4.0))
        tensor(3.)
    """
    own = leaves.find_state("sam_params", state, SamState, "sam")
    return _before("sam_params", params, params, own)[0]
