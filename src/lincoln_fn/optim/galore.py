"""GaLore: an optimizer's steps within the subspace in which a matrix's gradient is largest.

Let dp have n rows and at least as many columns. With P (n, rank) the left singular vectors of its
largest singular values, at every `every`-th step those of the new gradient, the inner optimizer
gets P^T dp for the parameter P^T p, and returns P^T p + d:

    p <- p + scale P d

So the inner optimizer's state has rank numbers in place of n. A matrix with fewer columns than rows
is treated as its transpose. All other parameters, and matrices of at most `rank` rows or columns,
are left to the inner optimizer as they are.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Params, Positive, PositiveInt, bare, record, tree, unexpected
from lincoln_fn.optim import leaves
from lincoln_fn.optim.optimizer import Optimizer, OptimizerState
from lincoln_fn.optim.transforms import Transform, transform
from lincoln_fn.runtime import svd, when_due

NO_ADJOINT: Final = (
    "its subspace is of singular vectors, whose derivative is infinite where two values are equal"
)


@record
class Subspace(leaves.LeafState):
    """P, the basis of the subspace of one parameter; None for one that is left as it is."""

    basis: Tensor | None

    def fits(self, p: Tensor) -> bool:
        """Return whether this belongs to a parameter of p's shape."""
        if self.basis is None:
            return True
        return p.ndim == 2 and self.basis.shape[0] == min(p.shape)

    def enter(self, x: Tensor) -> Tensor:
        """Compute P^T x, or x P for a matrix with fewer columns than rows."""
        if self.basis is None:
            return x
        basis = self.basis.to(x.dtype)
        return x @ basis if _is_tall(x) else basis.mT @ x

    def leave(self, x: Tensor, like: Tensor) -> Tensor:
        """Compute P x, or x P^T."""
        if self.basis is None:
            return x
        basis = self.basis.to(x.dtype)
        return x @ basis.mT if _is_tall(like) else basis @ x


def _is_tall(x: Tensor) -> bool:
    return x.shape[0] > x.shape[1]


@record
class GaloreState:
    """How many steps were taken, a `Subspace` for each parameter, and the inner state."""

    step: Tensor
    subspaces: Params
    inner: OptimizerState


def _init(inner: Optimizer, params: Params, *, rank: int) -> GaloreState:
    """Make the bases 0: the first step computes them."""
    leaves.check_whole("galore", params)
    shapes = [tuple(leaf.shape) for leaf in tree.leaves(params)]
    if shapes and all(len(shape) < 2 for shape in shapes):
        mend = "give them to another optimizer by by_path"
        raise unexpected("galore", "at least one matrix", f"shapes {shapes}", mend)

    def start(p: Tensor) -> Subspace:
        dtype = torch.promote_types(p.dtype, torch.float32)
        is_projected = p.ndim == 2 and min(p.shape) > rank
        return Subspace(p.new_zeros(min(p.shape), rank, dtype=dtype) if is_projected else None)

    subspaces = leaves.state_tree(start, params)
    (low,) = leaves.update_leaves("galore", _enter, params, params, subspaces)[:1]
    return GaloreState(leaves.no_steps(params), subspaces, inner.init(low))


@when_due
def _subspace(dp: Tensor, *, old: Tensor) -> tuple[Tensor]:
    """Compute the left singular vectors of the largest values of a matrix of few rows."""
    return (svd(dp)[0][:, : old.shape[1]],)


def _update(
    inner: Optimizer, params: Params, grads: Params, state: GaloreState, *, every: int, scale: float
) -> tuple[Params, GaloreState]:
    leaves.check_state("galore", state, GaloreState)
    is_due = state.step % every == 0

    def follow(p: Tensor, dp: Tensor, old: Subspace) -> tuple[Tensor, Subspace]:
        if old.basis is None:
            return p, old
        matrix = (dp.mT if _is_tall(dp) else dp).to(old.basis.dtype)
        return _enter(p, dp, Subspace(_subspace(is_due, matrix, old=old.basis)[0]))

    low, subspaces = leaves.update_leaves("galore", follow, params, grads, state.subspaces)
    low_grads, _ = leaves.update_leaves("galore", _enter, grads, grads, subspaces)
    moved, kept = inner.update(low, low_grads, state.inner)
    steps = iter(zip(tree.leaves(low), tree.leaves(moved), strict=True))

    def step(p: Tensor, dp: Tensor, subspace: Subspace) -> tuple[Tensor, Subspace]:
        before, after = next(steps)
        if subspace.basis is None:
            return after, subspace
        return p + scale * subspace.leave(after - before, p), subspace

    params, _ = leaves.update_leaves("galore", step, params, grads, subspaces)
    return params, GaloreState(state.step + 1, subspaces, kept)


def _enter(p: Tensor, dp: Tensor, subspace: Subspace) -> tuple[Tensor, Subspace]:
    return subspace.enter(p), subspace


@core.constructor
def galore(rank: PositiveInt = 128, every: PositiveInt = 200, scale: Positive = 0.25) -> Transform:
    """Take an optimizer's steps within the subspace in which a matrix's gradient is largest.

    The optimizer's state of a matrix then has `rank` rows or columns: `chain(galore(128),
    adamw(1e-2))`. Its own weight decay acts within the subspace, too. Parameters that are no
    matrices, and small ones, are updated as without it.

    Args:
        rank: how many dimensions the subspace of a matrix has.
        every: how many steps use the same subspace. Only the first computes it, compiled or not.
        scale: the factor of the step within the subspace, above 0.

    Source: Zhao et al., "GaLore: Memory-Efficient LLM Training by Gradient Low-Rank Projection",
    2024, algorithm 2.

    Example:
        >>> lf.optim.chain(galore(2), lf.optim.adamw()).init(torch.zeros(50, 9)).inner.m.shape
        torch.Size([50, 2])
    """
    return bare(partial(transform, adjoint=NO_ADJOINT), _init, _update)
