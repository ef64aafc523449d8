"""Decompositions of a matrix, which are nan for a matrix that is not finite.

torch refuses such a matrix by an error about its eigenvalues. With nan, a step finds that its loss
is not finite, and says so.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch
from torch import Tensor


def eigh(matrix: Tensor) -> tuple[Tensor, Tensor]:
    """Compute the eigenvalues of a symmetric matrix, ascending, and the eigenvectors as columns."""
    values, vectors = _if_finite(torch.linalg.eigh, matrix)
    return values, vectors


def svd(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Compute the reduced U, the singular values, descending, and V^T."""
    u, values, vt = _if_finite(partial(torch.linalg.svd, full_matrices=False), matrix)
    return u, values, vt


def _if_finite(decompose: Callable[[Tensor], Iterable[Tensor]], matrix: Tensor) -> list[Tensor]:
    is_finite = matrix.isfinite().all()
    # Both are computed: a branch on a tensor's value could not be traced.
    parts = decompose(torch.where(is_finite, matrix, 0))
    return [torch.where(is_finite, part, torch.nan) for part in parts]
