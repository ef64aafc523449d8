"""The inverse of a damped Kronecker product, by the eigenvectors of its factors.

    (A ox B + lambda I)^(-1) dW~ = U_A ((U_A^T dW~ U_B) / (a b^T + lambda)) U_B^T

`kfac.py` derives it. dW~ has the gradient of the bias as its last row.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Params, cast_like, eigh, evolve, record, when_due
from lincoln_fn.curvature._rows import has_inputs_first
from lincoln_fn.curvature.kfac_factors import Factors
from lincoln_fn.layers.common.normalisation import widened


@record
class Eigen:
    """Eigenvalues, ascending, and eigenvectors as columns, of both factors."""

    a: Float[Tensor, " I"]
    a_vectors: Float[Tensor, "I I"]
    b: Float[Tensor, " O"]
    b_vectors: Float[Tensor, "O O"]


def eigen_when_due(is_due: Tensor, factors: Factors, old: Eigen) -> Eigen:
    """Compute them of new factors where that is due."""
    kept = {field: getattr(old, field) for field in ("a", "a_vectors", "b", "b_vectors")}
    return Eigen(*_eigen(is_due, factors.a, factors.b, **kept))


@when_due
def _eigen(
    first: Tensor, second: Tensor, *, a: Tensor, a_vectors: Tensor, b: Tensor, b_vectors: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute the eigenvalues, without negative rounding errors, and the eigenvectors."""
    (a, a_vectors), (b, b_vectors) = map(eigh, (first, second))
    return a.clamp(min=0), a_vectors, b.clamp(min=0), b_vectors


def natural(d: Params, basis: Eigen, damping: float) -> Params:
    """Compute U_A ((U_A^T dW~ U_B) / (a b^T + lambda)) U_B^T, for a weight and a bias."""
    inputs_first = has_inputs_first(d.weight)
    rows = d.weight if inputs_first else d.weight.flatten(1).mT
    if d.bias is not None:
        rows = torch.cat([rows, d.bias.unsqueeze(0)])
    rows = widened(rows)
    u_a, u_b = basis.a_vectors, basis.b_vectors
    scaled = (u_a.mT @ rows @ u_b) / (torch.outer(basis.a, basis.b) + damping)
    rows = u_a @ scaled @ u_b.mT
    weight, bias = (rows, None) if d.bias is None else (rows[:-1], rows[-1])
    shaped = weight if inputs_first else weight.mT.reshape(d.weight.shape)
    return cast_like(evolve(d, weight=shaped, bias=bias), d)
