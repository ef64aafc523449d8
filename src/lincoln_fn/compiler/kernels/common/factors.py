"""The factors of a product as kernels take them: row-major or column-major, without gaps."""

from __future__ import annotations

from torch import Tensor


def without_gaps(matrix: Tensor) -> Tensor:
    """Copy a matrix, or a batch of them, unless it is row-major or column-major."""
    return matrix if matrix.mT.is_contiguous() else matrix.contiguous()


def is_turned(matrix: Tensor) -> bool:
    """Return whether such a matrix is column-major, and not row-major, too."""
    return not matrix.is_contiguous()
