"""ALiBi, attention with linear biases: a mask to add to scores, which falls with the distance.

(Press, Smith and Lewis, "Train Short, Test Long: Attention with Linear Biases Enables Input Length
Extrapolation", 2022, section 3.)

Head h subtracts m_h from a score for each place between query i and key j:

    y_(hij) = -m_h |i - j|

The slopes of n heads are m_h = 2^(-8 h / n) for h = 1, ..., n, if n is a power of 2. If it is not,
they are those of the next smaller power p, and then every other one of those of 2 p.

Derivation. y depends on the shape of x alone:

    dx = 0

Cache: the shapes of x and y.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, Moved, PositiveInt, Sequence, StandIns, bare, stand_ins

Bias: TypeAlias = Float[Tensor, "*batch heads length length"]


def forward(params: tuple[()], x: Sequence, *, num_heads: int) -> tuple[Bias, StandIns]:
    """Compute y_hij = -m_h |i - j|."""
    if x.ndim < 2:
        raise core.wrong_shape("alibi", "x", x, "(..., length, features)")
    place = torch.arange(x.shape[-2], device=x.device)
    distance = (place.unsqueeze(-1) - place).abs()
    m = slopes(num_heads, x.device)
    bias = (-m[:, None, None] * distance).to(x.dtype)
    y = bias.expand(*x.shape[:-2], *bias.shape)
    return y, stand_ins(x, y)


def backward(params: tuple[()], cache: StandIns, g: Moved) -> tuple[Sequence, tuple[()]]:
    """Compute dx = 0."""
    return g.new_zeros(cache.x.shape), ()


@core.constructor(kind="addition", along="rows")
def alibi(num_heads: PositiveInt) -> Layer:
    """Make a mask for attention that falls with the distance: y = -m_h |i - j|.

    x is a sequence (..., length, features), of which only the shape matters. y has shape
    (..., num_heads, length, length), and is a mask for `attention_heads` and the layers around it.

    Example:
        >>> alibi(1).predict((), torch.zeros(2, 4)) * 256
        tensor([[[-0., -1.],
                 [-1., -0.]]])
    """
    return bare(Layer, forward, backward)


def slopes(num_heads: int, device: torch.device | None = None) -> Float[Tensor, " heads"]:
    """Return the slope of each head."""
    power = 1 << (num_heads.bit_length() - 1)
    h = torch.arange(num_heads, dtype=torch.float64, device=device)
    # Those of the nearest power of two, and then those between them.
    own, between = 8 * (h + 1), 4 * (2 * (h - power) + 1)
    return (-torch.where(h < power, own, between) / power).exp2()
