"""Constructors of layers that make one output of several inputs, and of the identity."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = ["add", "concatenate", "identity", "multiply"]


def add() -> Layer:
    """Make a layer that sums its inputs: y = x_1 + ... + x_n.

    Returns:
        The layer, from a tuple of tensors of one shape.

    Example:
        >>> add().predict((), (torch.ones(2), torch.ones(2)))
        tensor([2., 2.])
    """
    return layer_of("add()", layers.add)


def multiply() -> Layer:
    """Make a layer that multiplies its inputs, element by element: y = x_1 x_2 ... x_n.

    Returns:
        The layer, from a tuple of tensors of one shape.

    Example:
        >>> multiply().predict((), (torch.tensor([2.0]), torch.tensor([3.0])))
        tensor([6.])
    """
    return layer_of("multiply()", layers.multiply)


def concatenate(dim: int = -1) -> Layer:
    """Make a layer that puts its inputs one behind the other: y = [x_1, ..., x_n].

    Args:
        dim: the axis, along which alone the inputs' shapes may differ.

    Returns:
        The layer, from a tuple of tensors.

    Example:
        >>> concatenate().predict((), (torch.zeros(1), torch.ones(2)))
        tensor([0., 1., 1.])
    """
    return layer_of(call_repr("concatenate", dim=(dim, -1)), layers.concatenate, dim=dim)


def identity() -> Layer:
    """Make a layer that does nothing: y = x.

    Returns:
        The layer.

    Example:
        >>> identity().predict((), torch.ones(2))
        tensor([1., 1.])
    """
    return layer_of("identity()", layers.identity)
