"""The factors of a product as kernels take them: row-major, transposed if they are column-major."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.fastpath.product import is_column_major


def as_they_lie(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor, bool, bool]:
    """Show two factors by rows, without a copy where they are column-major.

    Example:
        >>> import torch
        >>> a, b, *are_turned = as_they_lie(torch.ones(3, 2).mT, torch.ones(3, 5))
        >>> a.shape, b.shape, are_turned
        (torch.Size([3, 2]), torch.Size([3, 5]), [True, False])
    """
    a_is_turned, b_is_turned = is_column_major(a), is_column_major(b)
    return a.mT if a_is_turned else a, b.mT if b_is_turned else b, a_is_turned, b_is_turned


def product_like(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> Tensor:
    """Make a tensor for the product of factors that may be turned.

    Example:
        >>> import torch
        >>> product_like(torch.ones(3, 2), torch.ones(3, 5), True, False).shape
        torch.Size([2, 5])
    """
    lines, columns = a.shape[-1 if a_is_turned else -2], b.shape[-2 if b_is_turned else -1]
    return a.new_empty(*a.shape[:-2], lines, columns)
