"""Initial values that keep the scale of what passes through a layer, from the layer's fans."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import keys
from lincoln_fn.arguments import checked
from lincoln_fn.initializers.initializer import Fans, Initializer
from lincoln_fn.keys import Key, Shape
from lincoln_fn.layer import call_repr

Nonlinearity: TypeAlias = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]

Mode: TypeAlias = Literal["fan_in", "fan_out"]


def fan_in_uniform() -> Initializer:
    """Draw uniformly from [-1/sqrt(n_in), 1/sqrt(n_in)), as torch's linear layers do by default.

    Returns:
        The initializer.

    Example:
        >>> values = fan_in_uniform().draw(Key(0), (100,), Fans(4, 9), torch.float32)
        >>> bool(values.abs().max() <= 0.5)
        True
    """

    def draw(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype) -> Tensor:
        bound = 1 / math.sqrt(max(fans.n_in, 1))
        return keys.uniform(key, shape, -bound, bound, dtype)

    return Initializer("fan_in_uniform()", draw)


@checked
def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = 2 gain^2 / (n_in + n_out).

    A compromise between keeping the scale of y and that of dx. torch calls it xavier.

    Args:
        gain: what the nonlinearity after the layer asks for, such as `gain("tanh")`.

    Returns:
        The initializer.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equations 12 and 16.

    Example:
        >>> glorot_uniform(gain=2.0)
        glorot_uniform(gain=2.0)
    """
    return _scaled(
        call_repr("glorot_uniform", gain=(gain, 1.0)),
        "uniform",
        lambda fans: 2 * gain**2 / max(fans.n_in + fans.n_out, 1),
    )


@checked
def glorot_normal(gain: float = 1.0) -> Initializer:
    """Draw from the normal distribution of variance v = 2 gain^2 / (n_in + n_out).

    A compromise between keeping the scale of y and that of dx. torch calls it xavier.

    Args:
        gain: what the nonlinearity after the layer asks for, such as `gain("tanh")`.

    Returns:
        The initializer.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equations 12 and 16.

    Example:
        >>> glorot_normal(gain=2.0)
        glorot_normal(gain=2.0)
    """
    return _scaled(
        call_repr("glorot_normal", gain=(gain, 1.0)),
        "normal",
        lambda fans: 2 * gain**2 / max(fans.n_in + fans.n_out, 1),
    )


@checked
def he_uniform(
    mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = 0.0
) -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = gain^2 / n.

    For layers before a ReLU, which halves the variance, or its like. torch calls it kaiming.

    Args:
        mode: "fan_in" for n = n_in, which keeps the scale of y; "fan_out" for n_out and dx's.
        nonlinearity: what follows the layer, as `gain` has it.
        negative_slope: that of a leaky_relu.

    Returns:
        The initializer.

    Raises:
        ValueError: for an unknown mode or nonlinearity.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, equations 10 and 14.

    Example:
        >>> he_uniform(mode='fan_out')
        he_uniform(mode='fan_out')
    """
    return _he("uniform", mode, nonlinearity, negative_slope)


@checked
def he_normal(
    mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = 0.0
) -> Initializer:
    """Draw from the normal distribution of variance v = gain^2 / n.

    For layers before a ReLU, which halves the variance, or its like. torch calls it kaiming.

    Args:
        mode: "fan_in" for n = n_in, which keeps the scale of y; "fan_out" for n_out and dx's.
        nonlinearity: what follows the layer, as `gain` has it.
        negative_slope: that of a leaky_relu.

    Returns:
        The initializer.

    Raises:
        ValueError: for an unknown mode or nonlinearity.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, equations 10 and 14.

    Example:
        >>> he_normal(mode='fan_out')
        he_normal(mode='fan_out')
    """
    return _he("normal", mode, nonlinearity, negative_slope)


def lecun_uniform() -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = 1 / n_in.

    It keeps the scale of y, and is what self-normalising networks (SELU) ask for.

    Returns:
        The initializer.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6.

    Example:
        >>> lecun_uniform()
        lecun_uniform()
    """
    return _scaled("lecun_uniform()", "uniform", lambda fans: 1 / max(fans.n_in, 1))


def lecun_normal() -> Initializer:
    """Draw from the normal distribution of variance v = 1 / n_in.

    It keeps the scale of y, and is what self-normalising networks (SELU) ask for.

    Returns:
        The initializer.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6.

    Example:
        >>> lecun_normal()
        lecun_normal()
    """
    return _scaled("lecun_normal()", "normal", lambda fans: 1 / max(fans.n_in, 1))


@checked
def gain(nonlinearity: Nonlinearity, negative_slope: float = 0.01) -> float:
    """Tell by what factor weights should be larger for a nonlinearity, as torch does.

    Args:
        nonlinearity: linear, sigmoid, tanh, relu, leaky_relu or selu.
        negative_slope: that of a leaky_relu.

    Returns:
        The factor: 1, 1, 5/3, sqrt(2), sqrt(2 / (1 + negative_slope^2)) or 3/4.

    Raises:
        ValueError: for any other nonlinearity.

    Example:
        >>> gain("tanh")
        1.6666666666666667
    """
    gains = {
        "linear": 1.0,
        "sigmoid": 1.0,
        "tanh": 5 / 3,
        "relu": math.sqrt(2),
        "leaky_relu": math.sqrt(2 / (1 + negative_slope**2)),
        "selu": 3 / 4,
    }
    return gains[nonlinearity]


def _he(kind: str, mode: Mode, nonlinearity: Nonlinearity, negative_slope: float) -> Initializer:
    square = gain(nonlinearity, negative_slope) ** 2
    name = call_repr(
        f"he_{kind}",
        mode=(mode, "fan_in"),
        nonlinearity=(nonlinearity, "relu"),
        negative_slope=(negative_slope, 0.0),
    )
    return _scaled(
        name,
        kind,
        lambda fans: square / max(fans.n_in if mode == "fan_in" else fans.n_out, 1),
    )


def _scaled(name: str, kind: str, variance: Callable[[Fans], float]) -> Initializer:
    def draw(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype) -> Tensor:
        std = math.sqrt(variance(fans))
        if kind == "normal":
            return keys.normal(key, shape, 0.0, std, dtype)
        bound = math.sqrt(3) * std
        return keys.uniform(key, shape, -bound, bound, dtype)

    return Initializer(name, draw)
