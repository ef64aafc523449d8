"""Ways to compute a matrix product in a compiled step, between which products.py chooses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.compiled import float16_products, row_products, small_products
from lincoln_fn.compiled.kernels import mm_by_onednn
from lincoln_fn.compiled.written import written
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath.product import VECTOR, onednn_is_faster

Way: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def looped(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b as a sum of products.

    A b that is column-major is copied first, for along its columns each sum would be a vector's, to
    be added up by itself; but not one of columns so long that these are fewer steps.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        The product.

    Example:
        >>> looped(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    terms, m = b.shape
    is_copied = b.stride(0) == 1 < m and terms <= m * VECTOR
    rows = written(b.contiguous()) if is_copied else b
    return (a.unsqueeze(-1) * rows.unsqueeze(-3)).sum(-2)


def apart(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b by a call that adds nothing to it.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        The product.

    Example:
        >>> apart(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    return written(a @ b)


def many_with_one(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b of many a and one b, as one product of all their rows if these lie in a row.

    Args:
        a: of shape (batch, n, k).
        b: of shape (batch, k, m), of which all are the same.

    Returns:
        The products.

    Example:
        >>> many_with_one(torch.ones(2, 1, 3), torch.ones(3, 1).expand(2, 3, 1)).flatten()
        tensor([3., 3.])
    """
    if len(a) == 0 or not a.is_contiguous():
        return torch.bmm(a, b)
    return product(a.flatten(0, 1), b[0]).view(*a.shape[:2], b.shape[2])


def in_bfloat16(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b of factors cast to bfloat16.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        The product, in float32.

    Example:
        >>> in_bfloat16(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    return bfloat16.mm(a, b).float()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b by the library that takes less time for it.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        The product.

    Example:
        >>> product(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
        tensor([[11.]])
    """
    if small_products.makes(a, b):
        return small_products.product(a, b)
    if float16_products.makes(a, b):
        return float16_products.product(a, b)
    if row_products.makes(a, b):
        return row_products.product(a, b)
    return mm_by_onednn(a, b) if onednn_is_faster(a, b.mT) else a @ b


def by_columns(way: Way) -> Way:
    """Make a way to compute a b as (b^T a^T)^T.

    Args:
        way: how b^T a^T is computed.

    Returns:
        A function of a and b, whose product is column-major.

    Example:
        >>> by_columns(torch.mm)(torch.ones(2, 3), torch.ones(3, 5)).stride()
        (1, 2)
    """

    def transposed_product(a: Tensor, b: Tensor) -> Tensor:
        return way(b.mT, a.mT).mT

    return transposed_product


transposed: Final = by_columns(product)
looped_by_columns: Final = by_columns(looped)
small_by_columns: Final = by_columns(small_products.product)
row_by_columns: Final = by_columns(row_products.product)
float16_by_columns: Final = by_columns(float16_products.product)
