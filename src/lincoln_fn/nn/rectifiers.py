"""Constructors of rectified linear units and their kin, which bend at 0."""

from __future__ import annotations

from functools import partial

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = ["celu", "elu", "leaky_relu", "prelu", "relu", "relu6", "rrelu", "selu"]


def relu() -> Layer:
    """Make a rectified linear layer, which keeps what is positive: y = max(x, 0).

    Returns:
        The layer, without parameters.

    Example:
        >>> relu()
        relu()
    """
    return layer_of("relu()", layers.relu)


def relu6() -> Layer:
    """Make a rectified linear layer with a ceiling: y = min(max(x, 0), 6).

    Returns:
        The layer, without parameters.

    Example:
        >>> relu6()
        relu6()
    """
    return layer_of("relu6()", layers.relu6)


def leaky_relu(negative_slope: float = 0.01) -> Layer:
    """Make a leaky rectified linear layer, y = max(x, 0) + negative_slope min(x, 0).

    Args:
        negative_slope: dy/dx for x < 0.

    Returns:
        The layer, without parameters.

    Example:
        >>> leaky_relu(), leaky_relu(0.2)
        (leaky_relu(), leaky_relu(negative_slope=0.2))
    """
    name = call_repr("leaky_relu", negative_slope=(negative_slope, 0.01))
    return layer_of(name, layers.leaky_relu, negative_slope=negative_slope)


def prelu(num_parameters: int = 1, init: float = 0.25) -> Layer:
    """Make a rectified linear layer with a trained slope w for x < 0: y = max(x, 0) + w min(x, 0).

    Args:
        num_parameters: 1, or the number of channels, on axis 1, to have a slope for each.
        init: the initial slope.

    Returns:
        The layer, whose params are `layers.prelu.Params`.

    Raises:
        ValueError: if num_parameters is below 1.

    Example:
        >>> prelu(), prelu(3, init=0.1)
        (prelu(), prelu(num_parameters=3, init=0.1))
    """
    if num_parameters < 1:
        raise ValueError(f"prelu: expected num_parameters of at least 1, got {num_parameters}")
    name = call_repr("prelu", num_parameters=(num_parameters, 1), init=(init, 0.25))
    init_params = partial(layers.prelu.init, num_parameters=num_parameters, init=init)
    return layer_of(name, layers.prelu, init_params)


def rrelu(lower: float = 1 / 8, upper: float = 1 / 3) -> Layer:
    """Make a leaky rectified linear layer whose slopes for x < 0 are drawn anew at every step.

    Args:
        lower: the smallest slope.
        upper: the bound above; `predict` takes the mean of both.

    Returns:
        The layer, whose params are `layers.rrelu.Params`: a key, and nothing trained.

    Raises:
        ValueError: if lower is above upper.

    Example:
        >>> rrelu(), rrelu(0.1, 0.3)
        (rrelu(), rrelu(lower=0.1, upper=0.3))
    """
    if not lower <= upper:
        raise ValueError(f"rrelu: expected lower at most upper, got {lower} and {upper}")
    name = call_repr("rrelu", lower=(lower, 1 / 8), upper=(upper, 1 / 3))
    return layer_of(name, layers.rrelu, layers.rrelu.init, lower=lower, upper=upper)


def elu(alpha: float = 1.0) -> Layer:
    """Make an exponential linear layer, y = x for x > 0, else alpha (exp(x) - 1).

    Args:
        alpha: what y tends to for large negative x, with its sign changed.

    Returns:
        The layer, without parameters.

    Example:
        >>> elu(), elu(0.5)
        (elu(), elu(alpha=0.5))
    """
    return layer_of(call_repr("elu", alpha=(alpha, 1.0)), layers.elu, alpha=alpha)


def selu() -> Layer:
    """Make a scaled exponential linear layer, which keeps mean 0 and variance 1: see `layers.selu`.

    Returns:
        The layer, without parameters.

    Example:
        >>> selu()
        selu()
    """
    return layer_of("selu()", layers.selu)


def celu(alpha: float = 1.0) -> Layer:
    """Make an exponential linear layer without a kink at 0, whatever alpha is: see `layers.celu`.

    Args:
        alpha: what y tends to for large negative x, with its sign changed; above 0.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if alpha is not above 0.

    Example:
        >>> celu(), celu(0.5)
        (celu(), celu(alpha=0.5))
    """
    if not alpha > 0:
        raise ValueError(f"celu: expected alpha above 0, got {alpha}")
    return layer_of(call_repr("celu", alpha=(alpha, 1.0)), layers.celu, alpha=alpha)
