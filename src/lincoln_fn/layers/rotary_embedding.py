"""Rotary positions: each pair of features is turned by an angle that grows with the position.

At position t, pair i of the features of a head is (a, b), and its angle is t f_i, with the
frequency f_i = theta^(-2 i / n) or a scaled one. With c = m cos(t f_i) and s = m sin(t f_i), where
m is 1 or the scaling's factor,

    y_a = a c - b s
    y_b = b c + a s

The score of a query at position t and a key at position u then depends on t - u alone: a turn by
t f_i and one by u f_i leave one by (t - u) f_i between them.

Derivation. y is linear in a and b:

    da = g_a c + g_b s
    db = g_b c - g_a s

This is y with -s for s: the turn back. Angles are computed in float64, because in float32 a phase
of 1e4 has only three digits after the point.

Cache: the shape of x, c and s. Source: Su, Lu, Pan, Murtadha, Wen and Liu, "RoFormer: Enhanced
Transformer with Rotary Position Embedding", 2021, section 3.2.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Layer, Positive, PositiveInt, bare, record, require, static, unexpected
from lincoln_fn.layers.common.inputs import check_integers
from lincoln_fn.layers.common.rope_scaling import RopeScaling, unscaled

NAME = "rotary_embedding"

Heads: TypeAlias = Float[Tensor, "*batch length features"]
Positions: TypeAlias = Int[Tensor, "*positions length"]
Inputs: TypeAlias = Heads | tuple[Heads, Positions | None]
Gradients: TypeAlias = Heads | tuple[Heads, None]


@record
class Cache:
    x: Heads
    cos: Float[Tensor, "*positions length pairs"]
    sin: Float[Tensor, "*positions length pairs"]
    interleaved: bool = static()
    is_tuple: bool = static()


def forward(
    params: tuple[()], x: Inputs, *, theta: float, rotary_dim: int | None, interleaved: bool,
    scaling: RopeScaling | None,
) -> tuple[Heads, Cache]:  # fmt: skip
    """Compute y_a = a c - b s and y_b = b c + a s."""
    heads, positions = _parts(x)
    n = heads.shape[-1] if rotary_dim is None else rotary_dim
    if n % 2 or n > heads.shape[-1]:
        wanted = "an even number of features" if rotary_dim is None else f"at least {n} features"
        raise unexpected(NAME, f"x with {wanted}", heads.shape)
    if positions is None:
        positions = torch.arange(heads.shape[-2], device=heads.device)
    cos, sin = (part.to(heads.dtype) for part in _cos_and_sin(positions, theta, n, scaling))
    cache = Cache(core.stand_in(heads), cos, sin, interleaved, isinstance(x, tuple))
    return turned(heads, cos, sin, interleaved=interleaved), cache


def backward(params: tuple[()], cache: Cache, g: Heads) -> tuple[Gradients, tuple[()]]:
    """Compute da = g_a c + g_b s and db = g_b c - g_a s."""
    dx = turned(g, cache.cos, -cache.sin, interleaved=cache.interleaved)
    return (dx, None) if cache.is_tuple else dx, ()


# A sum of elements of x, whose relevance is shared as that of a sum is.


@core.constructor(kind="addition")
def rotary_embedding(
    theta: Positive = 10000.0, *, rotary_dim: PositiveInt | None = None, interleaved: bool = False,
    scaling: RopeScaling | None = None,
) -> Layer:  # fmt: skip
    """Turn each pair of features by an angle that grows with the position.

    x is the heads of a query or a key, (..., length, features), with positions 0, 1, 2 and so on;
    or (heads, positions), with integers that broadcast to (..., length), or None. y has the heads'
    shape.

    Args:
        theta: the base of the frequencies, `rope_theta` in Hugging Face's configurations.
        rotary_dim: how many features are turned, an even number; the others stay. None for all.
        interleaved: whether a pair is two neighbours, as in the paper, in GPT-J and in Cohere's
            networks. If not, feature i and feature i + n / 2 are a pair, as in Llama.
        scaling: other frequencies, made by `lf.rope_scaling`; None for theta^(-2 i / n).

    Example:
        >>> x = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
        >>> rotary_embedding().predict((), x)
        tensor([[1.0000, 0.0000],
                [0.5403, 0.8415]])
    """
    require(rotary_dim is None or rotary_dim % 2 == 0, NAME, "rotary_dim to be even", rotary_dim)
    return bare(Layer, forward, backward)


def turned(x: Heads, cos: Tensor, sin: Tensor, *, interleaved: bool) -> Heads:
    """Turn the first pairs of features, as many as cos and sin have; the rest stays."""
    n = 2 * cos.shape[-1]
    pairs, rest = x[..., :n], x[..., n:]
    if interleaved:
        a, b = pairs[..., 0::2], pairs[..., 1::2]
        y = torch.stack([a * cos - b * sin, b * cos + a * sin], -1).flatten(-2)
    else:
        a, b = pairs.chunk(2, -1)
        y = torch.cat([a * cos - b * sin, b * cos + a * sin], -1)
    return torch.cat([y, rest], -1) if rest.shape[-1] else y


def _cos_and_sin(
    positions: Positions, theta: float, n: int, scaling: RopeScaling | None
) -> tuple[Tensor, Tensor]:
    t = positions.double()
    if scaling is None:
        angle = t.unsqueeze(-1) * unscaled(theta, n, t)
        return angle.cos(), angle.sin()
    # The length of each sequence is its last position and one more.
    last = t.amax(-1, keepdim=True) if t.shape[-1] else t.new_zeros(*t.shape[:-1], 1)
    angle = t.unsqueeze(-1) * scaling.frequencies(theta, n, (last + 1).unsqueeze(-1))
    return scaling.attention_factor * angle.cos(), scaling.attention_factor * angle.sin()


def _parts(x: core.Arrays) -> tuple[Heads, Positions | None]:
    heads, positions = x if isinstance(x, tuple) and len(x) == 2 else (x, None)
    core.check_input(NAME, (), heads)
    if heads.ndim < 2:
        raise core.wrong_shape(NAME, "x", heads, "(..., length, features)")
    if positions is None:
        return heads, None
    check_integers(NAME, "positions", positions, heads.device)
    shape = tuple(heads.shape[:-1])
    sizes = zip(positions.shape[::-1], shape[::-1], strict=False)
    fits = 0 < positions.ndim <= len(shape) and positions.shape[-1] == shape[-1]
    if not fits or any(given not in (1, size) for given, size in sizes):
        raise core.unexpected(NAME, f"positions that broadcast to {shape}", positions.shape)
    return heads, positions
