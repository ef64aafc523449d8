"""Initial values for parameters, chosen by keyword: `dense(10, weight_init=normal(0.01))`."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import attrs
import torch
from torch import Tensor

from lincoln_fn import keys
from lincoln_fn.keys import Key, Shape


class Fans(NamedTuple):
    """How many inputs feed one output of a layer, and how many outputs one input feeds."""

    n_in: int
    n_out: int


@attrs.frozen(eq=False, repr=False)
class Initializer:
    """A way to draw initial values.

    Args:
        name: the code that makes it; its repr.
        draw: (key, shape, fans, dtype) -> tensor, on the key's device.
    """

    name: str
    draw: Callable[[Key, Shape, Fans, torch.dtype], Tensor]

    def __repr__(self) -> str:
        return self.name


def constant(value: float) -> Initializer:
    """Fill with one number.

    Args:
        value: the number.

    Returns:
        The initializer.

    Example:
        >>> constant(2.0).draw(Key(0), (3,), Fans(1, 1), torch.float32)
        tensor([2., 2., 2.])
    """
    return Initializer(
        f"constant({value})",
        lambda key, shape, fans, dtype: torch.full(
            shape, value, dtype=dtype, device=key.bits.device
        ),
    )


def normal(std: float, mean: float = 0.0) -> Initializer:
    """Draw from the normal distribution.

    Args:
        std: the standard deviation.
        mean: the mean.

    Returns:
        The initializer.

    Example:
        >>> normal(0.01)
        normal(0.01)
    """
    return Initializer(
        f"normal({std})" if mean == 0 else f"normal({std}, mean={mean})",
        lambda key, shape, fans, dtype: keys.normal(key, shape, mean, std, dtype),
    )


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
