"""The initializer protocol, and initial values that do not depend on the size of a layer."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Bound, Key, NonNegative, Positive, Shape, Shown, bare, constructor, keys


class Fans(NamedTuple):
    """The number of inputs of each output of a layer, and of outputs of each input."""

    n_in: int
    n_out: int


@attrs.frozen(eq=False, repr=False)
class Initializer(core.Made):
    """A way to draw initial values.

    Args:
        name: the code that makes it; its repr.
        draw: (key, shape, fans, dtype) -> tensor, on the key's device.
    """

    name: str
    draw: Callable[[Key, Shape, Fans, torch.dtype], Tensor]


def _constant(key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, value: float) -> Tensor:
    return torch.full(shape, value, dtype=dtype, device=key.bits.device)


@constructor
def constant(value: float) -> Initializer:
    """Fill with one number.

    Example:
        >>> constant(2.0).draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([2., 2., 2.])
    """
    return bare(Initializer, _constant)


def zeros() -> Initializer:
    """Fill with 0.

    Example:
        >>> zeros().draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([0., 0., 0.])
    """
    return Initializer("zeros()", constant(0.0).draw)


def ones() -> Initializer:
    """Fill with 1.

    Example:
        >>> ones().draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([1., 1., 1.])
    """
    return Initializer("ones()", constant(1.0).draw)


def _uniform(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, low: float, high: float
) -> Tensor:
    return keys.uniform(key, shape, low, high, dtype)


@constructor
def uniform(low: Shown[float] = 0.0, high: Shown[float] = 1.0) -> Initializer:
    """Draw uniformly from [low, high).

    Example:
        >>> uniform(-0.05, 0.05)
        uniform(-0.05, 0.05)
    """
    core.require(low <= high, "uniform", "low of at most high", (low, high))
    return bare(Initializer, _uniform)


def _normal(
    key: Key, shape: Shape, fans: Fans, dtype: torch.dtype, *, mean: float, std: float
) -> Tensor:
    return keys.normal(key, shape, mean, std, dtype)


@constructor
def normal(std: NonNegative, mean: float = 0.0) -> Initializer:
    """Draw from the normal distribution.

    Example:
        >>> normal(0.01)
        normal(0.01)
    """
    return bare(Initializer, _normal)


def _truncated_normal(
    key: Key,
    shape: Shape,
    fans: Fans,
    dtype: torch.dtype,
    *,
    std: float,
    mean: float,
    low: float,
    high: float,
) -> Tensor:
    """Compute F^-1 of uniform numbers between F(low) and F(high)."""
    first, last = (math.erf((bound - mean) / std / math.sqrt(2)) for bound in (low, high))
    unit = torch.erfinv(keys.uniform(key, shape, first, last, torch.float64))
    return unit.mul_(std * math.sqrt(2)).add_(mean).clamp_(low, high).to(dtype)


@constructor
def truncated_normal(
    std: Shown[Positive] = 1.0,
    mean: float = 0.0,
    low: Bound = -2.0,
    high: Bound = 2.0,
) -> Initializer:
    """Draw from the normal distribution as it is between two bounds.

    With F the normal distribution function, F(x) is uniform between F(low) and F(high): each
    uniform number gives one value, and no draw is rejected.

    Args:
        std: the standard deviation before truncation, above 0.
        low: the smallest value; as in torch, it is not in units of std.

    Example:
        >>> bool(truncated_normal().draw(Key(0), (9,), Fans(1, 1), torch.float32).abs().max() <= 2)
        True
    """
    core.require(low < high, "truncated_normal", "low below high", (low, high))
    return bare(Initializer, _truncated_normal)
