"""Initial values that keep the scale of a layer's inputs and gradients, computed from its fans."""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Key, Shape, bare, checked, constructor, keys
from lincoln_fn.initializers.initializer import Fans, Initializer

Nonlinearity: TypeAlias = Literal["linear", "sigmoid", "tanh", "relu", "leaky_relu", "selu"]

Mode: TypeAlias = Literal["fan_in", "fan_out"]


def _fan_in_uniform(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype) -> Tensor:
    bound = 1 / math.sqrt(max(fans.n_in, 1))
    return keys.uniform(key, shape, -bound, bound, dtype)


def fan_in_uniform() -> Initializer:
    """Draw uniformly from [-1/sqrt(n_in), 1/sqrt(n_in)), as torch's linear layers do by default.

    Example:
        >>> bool(fan_in_uniform().draw(Key(0), (9,), Fans(4, 9), torch.float32).abs().max() <= 0.5)
        True
    """
    return Initializer("fan_in_uniform()", _fan_in_uniform)


def _scaled_uniform(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, variance: Callable[[Fans], float]
) -> Tensor:
    """Draw uniformly within sqrt(3 v)."""
    bound = math.sqrt(3) * math.sqrt(variance(fans))
    return keys.uniform(key, shape, -bound, bound, dtype)


def _scaled_normal(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, variance: Callable[[Fans], float]
) -> Tensor:
    """Draw from the normal distribution of variance v."""
    return keys.normal(key, shape, 0.0, math.sqrt(variance(fans)), dtype)


def _glorot(fans: Fans, *, gain: float) -> float:
    return 2 * gain**2 / max(fans.n_in + fans.n_out, 1)


@constructor
def glorot_uniform(gain: float = 1.0) -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = 2 gain^2 / (n_in + n_out).

    A compromise between keeping the scale of y and that of dx. torch calls it xavier.

    Args:
        gain: the factor for the nonlinearity after the layer, such as `gain("tanh")`.

    Source: Glorot and Bengio, "Understanding the difficulty of training deep feedforward neural
    networks", 2010, equations 12 and 16.

    Example:
        >>> glorot_uniform(gain=2.0)
        glorot_uniform(gain=2.0)
    """
    return bare(Initializer, partial(_scaled_uniform, variance=partial(_glorot, gain=gain)))


@constructor
def glorot_normal(gain: float = 1.0) -> Initializer:
    """Draw from the normal distribution of variance v = 2 gain^2 / (n_in + n_out).

    Its arguments and its source are those of `glorot_uniform`. torch calls it xavier.
    """
    return bare(Initializer, partial(_scaled_normal, variance=partial(_glorot, gain=gain)))


def _he(fans: Fans, *, mode: Mode, gain: float) -> float:
    return gain**2 / max(fans.n_in if mode == "fan_in" else fans.n_out, 1)


@constructor
def he_uniform(
    mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = 0.0
) -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = gain^2 / n.

    For layers before a ReLU, which halves the variance, or its like. torch calls it kaiming.

    Args:
        mode: "fan_in" for n = n_in, which keeps the scale of y; "fan_out" for n = n_out, which
            keeps that of dx.
        nonlinearity: the one after the layer, by a name that `gain` takes.
        negative_slope: that of a leaky_relu.

    Source: He, Zhang, Ren and Sun, "Delving Deep into Rectifiers", 2015, equations 10 and 14.

    Example:
        >>> he_uniform(mode='fan_out')
        he_uniform(mode='fan_out')
    """
    variance = partial(_he, mode=mode, gain=gain(nonlinearity, negative_slope))
    return bare(Initializer, partial(_scaled_uniform, variance=variance))


@constructor
def he_normal(
    mode: Mode = "fan_in", nonlinearity: Nonlinearity = "relu", negative_slope: float = 0.0
) -> Initializer:
    """Draw from the normal distribution of variance v = gain^2 / n.

    Its arguments and its source are those of `he_uniform`. torch calls it kaiming.
    """
    variance = partial(_he, mode=mode, gain=gain(nonlinearity, negative_slope))
    return bare(Initializer, partial(_scaled_normal, variance=variance))


def _lecun(fans: Fans) -> float:
    return 1 / max(fans.n_in, 1)


def lecun_uniform() -> Initializer:
    """Draw uniformly within sqrt(3 v), of variance v = 1 / n_in.

    It keeps the scale of y. Self-normalising networks (SELU) need it.

    Source: LeCun, Bottou, Orr and Müller, "Efficient BackProp", 1998, section 4.6.

    Example:
        >>> lecun_uniform()
        lecun_uniform()
    """
    return Initializer("lecun_uniform()", partial(_scaled_uniform, variance=_lecun))


def lecun_normal() -> Initializer:
    """Draw from the normal distribution of variance v = 1 / n_in.

    It has the use and the source of `lecun_uniform`.
    """
    return Initializer("lecun_normal()", partial(_scaled_normal, variance=_lecun))


@checked
def gain(nonlinearity: Nonlinearity, negative_slope: float = 0.01) -> float:
    """Return the factor by which weights should be larger for a nonlinearity, as torch does.

    Returns:
        The factor: 1, 1, 5/3, sqrt(2), sqrt(2 / (1 + negative_slope^2)) or 3/4.

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
