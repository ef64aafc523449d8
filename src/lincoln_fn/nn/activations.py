"""Constructors of activations: what stands between the layers that have parameters."""

from __future__ import annotations

from lincoln_fn import layers
from lincoln_fn.layer import Layer, spelled
from lincoln_fn.nn.build import layer_of

__all__ = ["log_sigmoid", "log_softmax", "relu", "sigmoid", "softmax", "tanh"]


def sigmoid() -> Layer:
    """Make a sigmoid layer, y = 1 / (1 + exp(-x)).

    Returns:
        The layer, without parameters.

    Example:
        >>> sigmoid()
        sigmoid()
    """
    return layer_of("sigmoid()", layers.sigmoid)


def tanh() -> Layer:
    """Make a hyperbolic tangent layer, with values between -1 and 1: y = tanh(x).

    Returns:
        The layer, without parameters.

    Example:
        >>> tanh()
        tanh()
    """
    return layer_of("tanh()", layers.tanh)


def relu() -> Layer:
    """Make a rectified linear layer, which keeps what is positive: y = max(x, 0).

    Returns:
        The layer, without parameters.

    Example:
        >>> relu()
        relu()
    """
    return layer_of("relu()", layers.relu)


def log_sigmoid() -> Layer:
    """Make a log-sigmoid layer, y = log(1 / (1 + exp(-x))), the log-probability of class 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> log_sigmoid()
        log_sigmoid()
    """
    return layer_of("log_sigmoid()", layers.log_sigmoid)


def softmax(dim: int = -1) -> Layer:
    """Make a softmax layer, y_j = exp(x_j) / sum_n exp(x_n).

    Args:
        dim: the axis along which y sums to 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> softmax(), softmax(dim=1)
        (softmax(), softmax(dim=1))
    """
    return layer_of(spelled("softmax", dim=(dim, -1)), layers.softmax, dim=dim)


def log_softmax(dim: int = -1) -> Layer:
    """Make a log-softmax layer, y_j = x_j - log sum_n exp(x_n).

    Args:
        dim: the axis along which exp(y) sums to 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> log_softmax(), log_softmax(dim=1)
        (log_softmax(), log_softmax(dim=1))
    """
    return layer_of(spelled("log_softmax", dim=(dim, -1)), layers.log_softmax, dim=dim)
