"""Checks of indices, shared by the layers that read or write x at positions given beside it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lincoln_fn.core import LayerError, check_axis, describe_non_tuple
from lincoln_fn.layers.common.merge import check_inputs


def check_indexed(layer: str, params: object, x: object, names: str, dim: int) -> None:
    """Check that x is a tuple of a floating tensor with an axis, indices, and floating tensors.

    Args:
        params: the parameters given, which should be ().
        x: the inputs given.
        names: of the inputs, such as "(x, index)".
        dim: the axis that the indices count along.

    Raises:
        LayerError: if it is not.
    """
    if type(x) is not tuple or len(x) != names.count(",") + 1:
        raise LayerError(layer, f"expected x to be {names}, got {describe_non_tuple(x)}")
    first, index, *rest = x
    check_inputs(layer, params, (first, *rest))
    if not isinstance(index, Tensor) or index.dtype not in (torch.int64, torch.int32):
        got = getattr(index, "dtype", type(index).__name__)
        raise LayerError(layer, f"expected index to be a tensor of integers, got {got}")
    if index.device != first.device:
        raise LayerError(layer, f"expected index on {first.device}, got {index.device}")
    check_axis(layer, first, dim)


def in_range(layer: str, index: Tensor, size: int, compute: Callable[[], Tensor]) -> Tensor:
    """Compute something by indices; the error about one out of range says which.

    Args:
        index: the indices.
        size: of the axis.
        compute: what torch computes.

    Returns:
        What it returns.

    Raises:
        LayerError: if torch finds an index out of range.

    Example:
        >>> x, index = torch.zeros(2), torch.tensor([5])
        >>> in_range("gather", index, 2, lambda: x.gather(0, index))
        Traceback (most recent call last):
        lincoln_fn.LayerError: gather: expected indices from 0 to 1, got 5
    """
    try:
        return compute()
    except (IndexError, RuntimeError) as error:
        if "out of" not in str(error):
            raise
        low, high = index.aminmax()
        problem = f"expected indices from 0 to {size - 1}, got {low if low < 0 else high}"
        raise LayerError(layer, problem) from error
