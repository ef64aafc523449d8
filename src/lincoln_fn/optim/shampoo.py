"""Shampoo: steps preconditioned by a matrix for each axis of a parameter.

For a parameter of k axes, with L_i starting at 0 and dp_i the matrix of dp whose rows belong to the
positions along axis i,

    L_i <- decay L_i + share dp_i dp_i^T        share = 1 - decay, or 1 for a decay of 1
    u = dp, multiplied along each axis i by (L_i + eps I)^(-1/(2k))
    b <- momentum b + u
    p <- p - lr b

For a matrix, u = L^(-1/4) dp R^(-1/4). A root is computed from the eigenvalues of L_i, at every
`every`-th step. An axis of more than `max_size` positions has no matrix, and does not count in k.
dp_i dp_i^T is as large as the axis is long. To multiply along the axis by a matrix A is to compute
A^T dp_i.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Momentum, NonNegative, Params, Positive, PositiveInt, Probability
from lincoln_fn.optim.leafwise import At, Row, Rules, Start, leafwise
from lincoln_fn.optim.leaves import LeafState, check_whole
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import add_scaled, take_step
from lincoln_fn.runtime import eigh, when_due

NO_ADJOINT: Final = (
    "its steps use eigenvectors, whose derivative is infinite where two eigenvalues are equal"
)


@core.record
class Preconditioner(LeafState):
    """For each axis L_i and its root, None for an axis without them; and the momentum or None."""

    products: tuple[Tensor | None, ...]
    roots: tuple[Tensor | None, ...]
    momentum: Tensor | None

    def fits(self, p: Tensor) -> bool:
        """Return whether this belongs to a parameter of p's shape."""
        b = self.momentum
        fits = are_of(self.products, p) and are_of(self.roots, p)
        return fits and (b is None or b.shape == p.shape)


@core.record
class ShampooState:
    """How many steps were taken, and a `Preconditioner` for each parameter."""

    step: Tensor
    kept: Params


def _begin(p: Tensor, *, momentum: float, max_size: int) -> Preconditioner:
    products, roots = axis_matrices(p, max_size), axis_matrices(p, max_size)
    return Preconditioner(products, roots, torch.zeros_like(p) if momentum else None)


@when_due
def _inverse_root(matrix: Tensor, order: Tensor, eps: Tensor, *, old: Tensor) -> tuple[Tensor]:
    """Compute (A + eps I)^(-1/order)."""
    values, vectors = eigh(matrix)
    scaled = vectors * ((values.clamp(min=0) + eps) ** (-1 / order)).to(values.dtype)
    return (scaled @ vectors.mT,)


def rules(at: At, *, momentum: float, decay: float, eps: float, every: int) -> Rules:
    """Compute p <- p - lr b, with dp multiplied along each axis."""
    is_due, share = at.state.step % every == 0, 1.0 if decay == 1 else 1 - decay

    def rule(p: Tensor, dp: Tensor, kept: Preconditioner) -> Row:
        products = tuple(
            old if old is None else add_scaled(decay * old, axis_product(dp, i, old.dtype), share)
            for i, old in enumerate(kept.products)
        )
        order = 2 * sum(matrix is not None for matrix in products)
        numbers = [torch.full((), n, dtype=torch.float64, device=p.device) for n in (order, eps)]
        roots = tuple(
            old if matrix is None else _inverse_root(is_due, matrix, *numbers, old=old)[0]
            for matrix, old in zip(products, kept.roots, strict=True)
        )
        b = multiply_axes(dp, roots).to(p.dtype)
        if kept.momentum is not None:
            b = momentum * kept.momentum + b
        new = Preconditioner(products, roots, None if kept.momentum is None else b)
        return take_step(p, b, at.lr), new

    return rule, None


@core.constructor
def shampoo(
    lr: LearningRate = 1e-1,
    momentum: Momentum = 0.9,
    decay: Probability = 1.0,
    weight_decay: NonNegative = 0.0,
    eps: Positive = 1e-4,
    every: PositiveInt = 1,
    max_size: PositiveInt = 8192,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make Shampoo: p <- p - lr L^(-1/4) dp R^(-1/4) for a matrix, with momentum.

    L is the sum of dp dp^T, and R that of dp^T dp. A parameter of k axes has a matrix for each, and
    the exponent -1/(2k). A vector has one, of the exponent -1/2.

    Args:
        momentum: how much of b is kept from step to step, at least 0.
        decay: how much of L and R is kept from step to step; 1 sums them up, as the source does.
        eps: is added to the eigenvalues of L and R.
        every: how many steps use the same roots. Only the first computes them, compiled or not.
        max_size: how many positions an axis with a matrix may have.

    Source: Gupta, Koren and Singer, "Shampoo: Preconditioned Stochastic Tensor Optimization", 2018,
    algorithms 1 and 2.

    Example:
        >>> optimizer, params = shampoo(0.5), torch.zeros(2, 2)
        >>> grads = torch.diag(torch.tensor([4.0, 9.0]))
        >>> optimizer.update(params, grads, optimizer.init(params))[0].diagonal()
        tensor([-0.5000, -0.5000])
    """
    begin = partial(_begin, momentum=momentum, max_size=max_size)
    start: Start = {"step": True, "kept": begin}
    return leafwise(ShampooState, rules, start, check=check_whole, no_adjoint=NO_ADJOINT)


def axis_matrices(p: Tensor, max_size: int) -> tuple[Tensor | None, ...]:
    """Make a matrix of zeros for each axis of at most so many positions, in float32 at least."""
    dtype = torch.promote_types(p.dtype, torch.float32)
    return tuple(
        torch.zeros(size, size, dtype=dtype, device=p.device) if size <= max_size else None
        for size in p.shape
    )


def axis_product(dp: Tensor, axis: int, dtype: torch.dtype) -> Tensor:
    """Compute dp_i dp_i^T."""
    rows = dp.to(dtype).movedim(axis, 0).unsqueeze(-1).flatten(1)
    return rows @ rows.mT


def multiply_axes(
    x: Tensor, matrices: tuple[Tensor | None, ...], *, transposed: bool = False
) -> Tensor:
    """Compute A_i^T x_i along each axis that has a matrix A_i, or A_i x_i."""
    for axis, matrix in enumerate(matrices):
        if matrix is not None:
            factor = matrix.mT if transposed else matrix
            x = (x.to(factor.dtype).movedim(axis, -1) @ factor).movedim(-1, axis)
    return x


def are_of(matrices: tuple[Tensor | None, ...], p: Tensor) -> bool:
    """Return whether the matrices are those of p: for each axis None, or one of its size."""
    return len(matrices) == p.ndim and all(
        matrix is None or matrix.shape == (size, size)
        for matrix, size in zip(matrices, p.shape, strict=True)
    )
