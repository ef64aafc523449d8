"""Shared by the optimizers that keep a matrix for each axis of a parameter: Shampoo and SOAP.

For axis i, let dp_i be the matrix of dp whose rows belong to the positions along the axis. Its
product dp_i dp_i^T is as large as the axis is long, and to multiply along the axis by a matrix A is
to compute A^T dp_i.
"""

from __future__ import annotations

import torch
from torch import Tensor


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


def are_of_axes(matrices: tuple[Tensor | None, ...], p: Tensor) -> bool:
    """Return whether there is an entry for each axis of p, None or a matrix of its size."""
    return len(matrices) == p.ndim and all(
        matrix is None or matrix.shape == (size, size)
        for matrix, size in zip(matrices, p.shape, strict=True)
    )
