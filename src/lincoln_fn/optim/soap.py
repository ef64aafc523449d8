"""SOAP: Adam in the basis of the eigenvectors that Shampoo's matrices have.

For each axis i of a parameter, with dp_i the matrix of dp whose rows belong to the positions along
the axis, and L_i starting at 0,

    L_i <- b2 L_i + (1 - b2) dp_i dp_i^T
    Q_i                         the eigenvectors of L_i, those of large eigenvalues first
    g = Q^T dp                  along all axes: Q_L^T dp Q_R for a matrix
    m <- b1 m + (1 - b1) dp
    v <- b2 v + (1 - b2) g^2
    p <- (1 - lr weight_decay) p - lr Q ((Q^T m') / (sqrt(v') + eps))

with m' = m / (1 - b1^t) and v' = v / (1 - b2^t). The first step only makes L_i and Q_i, and p
stays: in the basis of its own eigenvectors, a gradient is 0 in most places but for rounding. So t
counts from 0. At every `every`-th step after that, one step of the orthogonal iteration follows the
changed L: Q R = L Q. Before it, the columns of Q, and v with them, are sorted by the eigenvalues
q^T L q.

A parameter with fewer than two axes takes Adam's steps, and so does an axis of more than `max_size`
positions.
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.core import Decay, Epsilon, NonNegative, Params, PositiveInt, constructor, record
from lincoln_fn.optim.leafwise import At, Row, Rules, Start, leafwise
from lincoln_fn.optim.leaves import LeafState, check_whole
from lincoln_fn.optim.optimizer import LearningRate, Optimizer
from lincoln_fn.optim.rules import root, running_mean, take_step
from lincoln_fn.optim.shampoo import NO_ADJOINT, are_of, axis_matrices, axis_product, multiply_axes
from lincoln_fn.runtime import eigh, when_due


@record
class Rotated(LeafState):
    """For each axis L_i and Q_i, or None; the means m, and v in the basis; in float32 at least."""

    products: tuple[Tensor | None, ...]
    bases: tuple[Tensor | None, ...]
    m: Tensor
    v: Tensor

    def fits(self, p: Tensor) -> bool:
        """Return whether this belongs to a parameter of p's shape."""
        fits = are_of(self.products, p) and are_of(self.bases, p)
        return fits and self.m.shape == self.v.shape == p.shape


@record
class SoapState:
    """How many steps were taken, and a `Rotated` for each parameter."""

    step: Tensor
    kept: Params


def _begin(p: Tensor, *, max_size: int) -> Rotated:
    products = axis_matrices(p, max_size) if p.ndim > 1 else (None,) * p.ndim
    bases = tuple(each if each is None else each.clone() for each in products)
    # Rounded as bfloat16 rounds, Q^T m would be noise where the root of v is small.
    dtype = torch.promote_types(p.dtype, torch.float32)
    m, v = (torch.zeros_like(p, dtype=dtype) for _ in range(2))
    return Rotated(products, bases, m, v)


@when_due
def _eigenvectors(matrix: Tensor, *, old: Tensor) -> tuple[Tensor]:
    """Compute the eigenvectors, those of large eigenvalues first."""
    return (eigh(matrix)[1].flip(-1),)


@when_due
def _iterate(matrix: Tensor, *, basis: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Sort the columns of Q, and v along its first axis; then compute the Q of Q R = L Q."""
    order = (basis * (matrix @ basis)).sum(0).argsort(descending=True, stable=True)
    basis = torch.linalg.qr(matrix @ basis.index_select(1, order)).Q
    # The memory layout of v stays.
    return basis, torch.empty_like(v).copy_(v.index_select(0, order))


def rules(
    at: At, *, betas: tuple[float, float], eps: float, weight_decay: float, every: int
) -> Rules:
    """Compute p <- (1 - lr weight_decay) p - lr Q ((Q^T m') / (sqrt(v') + eps))."""
    step, shrink = at.state.step, 1 - at.lr * weight_decay
    c1, c2 = (1 - beta ** step.clamp(min=1).double() for beta in betas)
    is_first = step == 0
    is_due = (step % every == 0) & ~is_first

    def rule(p: Tensor, dp: Tensor, kept: Rotated) -> Row:
        dp = dp.to(kept.m.dtype)
        products = tuple(
            old if old is None else running_mean(old, axis_product(dp, i, old.dtype), betas[1])
            for i, old in enumerate(kept.products)
        )
        bases, v = _follow(is_first, is_due, products, kept)
        g = multiply_axes(dp, bases)
        m, new_v = running_mean(kept.m, dp, betas[0]), running_mean(v, g * g, betas[1])
        direction = (multiply_axes(m, bases) / c1) / (root(new_v / c2) + eps)
        direction = multiply_axes(direction, bases, transposed=True).to(p.dtype)
        new_p = take_step(p * shrink if weight_decay else p, direction, at.lr)
        pairs = ((p, new_p), (kept.m, m), (v, new_v))
        p, m, v = (torch.where(is_first, old, new.to(old.dtype)) for old, new in pairs)
        return p, Rotated(products, bases, m, v)

    return rule, None


def _follow(
    is_first: Tensor, is_due: Tensor, products: tuple[Tensor | None, ...], kept: Rotated
) -> tuple[tuple[Tensor | None, ...], Tensor]:
    """Compute the bases of the changed products, and v sorted as they are."""
    bases, v = [], kept.v
    for axis, (matrix, basis) in enumerate(zip(products, kept.bases, strict=True)):
        if matrix is not None and basis is not None:
            (basis,) = _eigenvectors(is_first, matrix, old=basis)
            along = v.movedim(axis, 0)
            basis, along = _iterate(is_due, matrix, basis=basis, v=along)
            v = along.movedim(0, axis)
        bases.append(basis)
    return tuple(bases), v


@constructor
def soap(
    lr: LearningRate = 3e-3,
    betas: tuple[Decay, Decay] = (0.95, 0.95),
    eps: Epsilon = 1e-8,
    weight_decay: NonNegative = 1e-2,
    every: PositiveInt = 10,
    max_size: PositiveInt = 8192,
    *,
    maximize: bool = False,
) -> Optimizer:
    """Make SOAP: Adam's steps in the basis Q of Shampoo's eigenvectors.

    p <- (1 - lr weight_decay) p - lr Q ((Q^T m') / (sqrt(v') + eps)), where m' is the unbiased mean
    of dp, and v' that of (Q^T dp)^2. For a matrix, Q^T dp is Q_L^T dp Q_R. The first step only
    finds Q, and leaves p as it is.

    Args:
        betas: how much of m, and how much of v and of the matrices, is kept from step to step.
        weight_decay: how strongly p decays.
        every: how many steps use the same basis. Only the first computes it, compiled or not.
        max_size: how many positions an axis with a matrix may have.

    Source: Vyas et al., "SOAP: Improving and Stabilizing Shampoo using Adam", 2024, algorithm 3,
    with the first step of the authors' program.

    Example:
        >>> optimizer, params = soap(0.5, weight_decay=0.0), torch.zeros(2, 2)
        >>> grads, state = torch.diag(torch.tensor([4.0, 9.0])), optimizer.init(params)
        >>> for _ in range(2):
        ...     params, state = optimizer.update(params, grads, state)
        >>> params.diagonal()
        tensor([-0.5000, -0.5000])
    """
    start: Start = {"step": True, "kept": partial(_begin, max_size=max_size)}
    return leafwise(SoapState, rules, start, check=check_whole, no_adjoint=NO_ADJOINT)
