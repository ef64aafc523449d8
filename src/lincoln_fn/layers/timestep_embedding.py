"""Time steps as features: waves of different lengths, as a diffusion model is given its step.

With the time t, m = n / 2 and the period P, for i from 0 to m - 1,

    f_i = P^(-i / m)
    y_i = cos(t f_i)
    y_(m + i) = sin(t f_i)

Derivation. Each t enters n numbers:

    dt = sum_(i < m) f_i (g_(m + i) cos(t f_i) - g_i sin(t f_i))

Integers have no gradient: dt is None. Angles are computed in float64, because in float32 a phase of
1e4 has only three digits after the point.

Cache: y, f, and whether t is of integers. Source: Ho, Jain and Abbeel, "Denoising Diffusion
Probabilistic Models", 2020; the frequencies and their order are those of Dhariwal and Nichol,
"Diffusion Models Beat GANs on Image Synthesis", 2021.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import FloatingDtype, Layer, Positive, PositiveInt, bare, record, unexpected

NAME = "timestep_embedding"
Times: TypeAlias = Float[Tensor, "*batch"] | Int[Tensor, "*batch"]


@record
class Cache:
    y: Float[Tensor, "*batch n"]
    f: Float[Tensor, " m"]
    is_integer: bool = core.static()


def forward(
    params: tuple[()], t: Times, *, embedding_dim: int, max_period: float, dtype: torch.dtype
) -> tuple[Float[Tensor, "*batch n"], Cache]:
    """Compute y_i = cos(t f_i) and y_(m + i) = sin(t f_i)."""
    if not isinstance(t, Tensor) or t.is_complex() or t.dtype is torch.bool:
        got = getattr(t, "dtype", type(t).__name__)
        raise unexpected(NAME, "x to be a tensor of integers or floats", got)
    m = embedding_dim // 2
    f = max_period ** (-torch.arange(m, dtype=torch.float64, device=t.device) / m)
    angle = t.double().unsqueeze(-1) * f
    dtype = t.dtype if t.is_floating_point() else dtype
    y = torch.cat((angle.cos(), angle.sin()), -1).to(dtype)
    return y, Cache(y, f.to(dtype), not t.is_floating_point())


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch n"]
) -> tuple[Float[Tensor, "*batch"] | None, tuple[()]]:
    """Compute dt = sum of f_i (g_(m + i) cos(t f_i) - g_i sin(t f_i)); None for integers."""
    cos, sin = cache.y.chunk(2, -1)
    g_cos, g_sin = g.chunk(2, -1)
    return None if cache.is_integer else (cache.f * (g_sin * cos - g_cos * sin)).sum(-1), ()


@core.constructor(kind="embedding")
def timestep_embedding(
    embedding_dim: PositiveInt, max_period: Positive = 10000.0,
    *, dtype: FloatingDtype = torch.float32,
) -> Layer:  # fmt: skip
    """Make features of the steps of a diffusion, or of times: cosines and sines of t f_i.

    x holds times, integers or floats, of any shape; y has x's shape, with a last axis of
    embedding_dim features. Times from 0 to 1 are multiplied by 1000 before, since the longest waves
    change little in less. dx is None for integers.

    Args:
        embedding_dim: the number of features, which is even.
        max_period: the longest wave is nearly 2 pi times as long.
        dtype: of y for integers; for floats it is x's.

    Example:
        >>> timestep_embedding(4).predict((), torch.tensor([0, 100]))
        tensor([[ 1.0000,  1.0000,  0.0000,  0.0000],
                [ 0.8623,  0.5403, -0.5064,  0.8415]])
    """
    core.require(embedding_dim % 2 == 0, NAME, "embedding_dim to be even", embedding_dim)
    return bare(Layer, forward, backward)
