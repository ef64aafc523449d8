"""Constructors of activations that are smooth, and of those along an axis."""

from __future__ import annotations

from typing import Literal

from lincoln_fn import layers
from lincoln_fn.layer import Layer, call_repr
from lincoln_fn.nn.build import layer_of

__all__ = [
    "gelu",
    "glu",
    "log_sigmoid",
    "log_softmax",
    "mish",
    "sigmoid",
    "silu",
    "softmax",
    "softmin",
    "softplus",
    "softsign",
    "tanh",
    "tanhshrink",
]


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
    return layer_of(call_repr("softmax", dim=(dim, -1)), layers.softmax, dim=dim)


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
    return layer_of(call_repr("log_softmax", dim=(dim, -1)), layers.log_softmax, dim=dim)


def softmin(dim: int = -1) -> Layer:
    """Make a softmin layer, y_j = exp(-x_j) / sum_n exp(-x_n).

    Args:
        dim: the axis along which y sums to 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> softmin(), softmin(dim=1)
        (softmin(), softmin(dim=1))
    """
    return layer_of(call_repr("softmin", dim=(dim, -1)), layers.softmin, dim=dim)


def gelu(approximate: Literal["none", "tanh"] = "none") -> Layer:
    """Make a Gaussian error linear unit, y = x P(Z < x) with Z normally distributed.

    Args:
        approximate: "none" for the distribution function itself, "tanh" for
            (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))) / 2 in its place.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if approximate is neither.

    Example:
        >>> gelu(), gelu("tanh")
        (gelu(), gelu(approximate='tanh'))
    """
    if approximate not in ("none", "tanh"):
        raise ValueError(f"gelu: expected approximate none or tanh, got {approximate!r}")
    name = call_repr("gelu", approximate=(approximate, "none"))
    return layer_of(name, layers.gelu, approximate=approximate)


def silu() -> Layer:
    """Make a sigmoid linear layer, y = x / (1 + exp(-x)), also called swish.

    Returns:
        The layer, without parameters.

    Example:
        >>> silu()
        silu()
    """
    return layer_of("silu()", layers.silu)


def mish() -> Layer:
    """Make a mish layer, y = x tanh(log(1 + exp(x))).

    Returns:
        The layer, without parameters.

    Example:
        >>> mish()
        mish()
    """
    return layer_of("mish()", layers.mish)


def softplus(beta: float = 1.0, threshold: float = layers.softplus.EXACT_PAST) -> Layer:
    """Make a softplus layer, y = log(1 + exp(beta x)) / beta.

    Args:
        beta: how sharply y bends at 0; above 0.
        threshold: of beta x, above which y = x. From 40 on, the default, y is exact; torch's
            default, 20, gives the same in float32.

    Returns:
        The layer, without parameters.

    Raises:
        ValueError: if beta is not above 0.

    Example:
        >>> softplus(), softplus(beta=2.0)
        (softplus(), softplus(beta=2.0))
    """
    if not beta > 0:
        raise ValueError(f"softplus: expected beta above 0, got {beta}")
    default = layers.softplus.EXACT_PAST
    name = call_repr("softplus", beta=(beta, 1.0), threshold=(threshold, default))
    return layer_of(name, layers.softplus, beta=beta, threshold=threshold)


def softsign() -> Layer:
    """Make a softsign layer, y = x / (1 + |x|), with values between -1 and 1.

    Returns:
        The layer, without parameters.

    Example:
        >>> softsign()
        softsign()
    """
    return layer_of("softsign()", layers.softsign)


def tanhshrink() -> Layer:
    """Make a tanh shrinkage layer, y = x - tanh(x).

    Returns:
        The layer, without parameters.

    Example:
        >>> tanhshrink()
        tanhshrink()
    """
    return layer_of("tanhshrink()", layers.tanhshrink)


def glu(dim: int = -1) -> Layer:
    """Make a gated linear unit, y = a / (1 + exp(-b)), a and b being the halves of x.

    Args:
        dim: the axis along which x is halved.

    Returns:
        The layer, without parameters.

    Example:
        >>> glu(), glu(dim=1)
        (glu(), glu(dim=1))
    """
    return layer_of(call_repr("glu", dim=(dim, -1)), layers.glu, dim=dim)
