"""Checks of tuples, shared by the layers that take several inputs, and of indices among them."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from lincoln_fn.core import LayerError, check_axis, check_input, check_like, describe_non_tuple


def check_inputs(layer: str, params: object, x: object) -> None:
    """Check that x is a tuple of floating tensors of one dtype, on one device.

    Args:
        params: the parameters given, which should be ().
        x: the inputs given.

    Raises:
        LayerError: if it is not.
    """
    if type(x) is not tuple or not x:
        raise LayerError(layer, f"expected x to be a tuple of tensors, got {describe_non_tuple(x)}")
    for i, x_i in enumerate(x):
        check_input(layer, params, x_i)
        check_like(layer, f"x[{i}]", x_i, x[0])


def check_one_shape(layer: str, x: tuple[Tensor, ...]) -> None:
    """Check that tensors have one shape.

    Args:
        x: the tensors.

    Raises:
        LayerError: if they do not.
    """
    shapes = [tuple(x_i.shape) for x_i in x]
    if len(set(shapes)) > 1:
        raise LayerError(layer, f"expected inputs of one shape, got {', '.join(map(str, shapes))}")


def check_shape(layer: str, g: object, shape: tuple[int, ...]) -> None:
    """Check that g has the shape that forward returned.

    Args:
        g: the gradient given to `backward`.
        shape: y's shape.

    Raises:
        LayerError: if it is not a tensor of that shape.
    """
    if not isinstance(g, Tensor):
        raise LayerError(layer, f"expected g to be a tensor, got {type(g).__name__}")
    if g.shape != shape:
        raise LayerError(layer, f"expected g of shape {shape}, got {tuple(g.shape)}")


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
