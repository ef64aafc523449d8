"""The factors of a product as kernels take them: row-major or column-major, without gaps."""

from __future__ import annotations

from torch import Tensor


def without_gaps(matrix: Tensor) -> Tensor:
    """Give a matrix, or a batch of them, as it is if it is row-major or column-major, or a copy.

    Example:
        >>> import torch
        >>> [without_gaps(x).stride() for x in (torch.ones(2, 3).mT, torch.ones(3, 4)[:, :2])]
        [(1, 3), (2, 1)]
    """
    return matrix if matrix.mT.is_contiguous() else matrix.contiguous()


def is_turned(matrix: Tensor) -> bool:
    """Tell whether such a matrix is column-major, and not row-major too.

    Example:
        >>> import torch
        >>> is_turned(torch.ones(3, 2).mT), is_turned(torch.ones(3, 2)), is_turned(torch.ones(3, 1))
        (True, False, False)
    """
    return not matrix.is_contiguous()
