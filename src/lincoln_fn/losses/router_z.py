"""Router z-loss of a mixture of experts: small logits, by the square of their logarithmic sum.

Derivation. With l_n = log sum_i e^(z_(n i)), whose derivative is softmax, and m_n the part of token
n in the mean,

    L = sum_n m_n l_n^2
    dz_(n i) = 2 m_n l_n p_(n i) g    with p_n = softmax(z_n)

Cache: z, m and l. Source: Zoph et al., "ST-MoE: Designing Stable and Transferable Sparse Expert
Models", 2022, equation 5.
"""

from __future__ import annotations

from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, check_cache, format_briefly, record, static, unexpected
from lincoln_fn.losses.internal import Cotangent, Loss

Logits: TypeAlias = Float[Tensor, "tokens experts"]


@record
class Tokens:
    """The logits z, and the part m of each token in the mean; the shapes that came in."""

    z: Logits
    m: Float[Tensor, " tokens"]
    shapes: tuple[tuple[int, ...], ...] = static()
    is_tuple: bool = static()

    def divided(self, dz: Logits) -> Arrays:
        """Give each router the gradient of its logits, in their shape."""
        parts = torch.split(dz, [torch.Size(shape[:-1]).numel() for shape in self.shapes])
        each = tuple(part.view(shape) for part, shape in zip(parts, self.shapes, strict=True))
        return each if self.is_tuple else each[0]


@record
class Cache:
    """The tokens, and the logarithm l of each one's sum."""

    tokens: Tokens
    log_sum: Float[Tensor, "tokens 1"]


def forward(prediction: Arrays, target: Tensor | None) -> tuple[Tensor, Cache]:
    """Compute L = sum_n m_n l_n^2."""
    tokens = read("router_z", prediction, target)
    log_sum = tokens.z.logsumexp(-1, keepdim=True)
    return (tokens.m * log_sum.squeeze(-1).square()).sum(), Cache(tokens, log_sum)


def backward(cache: Cache, g: Cotangent = 1.0) -> Arrays:
    """Compute dz_ni = 2 m_n l_n p_ni g."""
    check_cache("router_z", cache, Cache)
    tokens, log_sum = cache.tokens, cache.log_sum
    dz = 2 * tokens.m.unsqueeze(-1) * log_sum * tokens.z.softmax(-1) * g
    return tokens.divided(dz)


def router_z() -> Loss:
    """Make the loss that keeps the logits of a router small: the mean of (log sum_i e^(z_i))^2.

    Large logits round, and a rounded choice of experts jumps from step to step. ST-MoE adds the
    loss to its own with a weight of 0.001. Prediction and target are as those of `router_balance`.

    Example:
        >>> router_z().forward(torch.zeros(3, 2), None)[0]
        tensor(0.4805)
    """
    return Loss("router_z()", forward, backward)


def read(name: str, prediction: Arrays, target: Tensor | None) -> Tokens:
    """Put the tokens of all routers into one table; without those where the target is False."""
    is_tuple = type(prediction) is tuple
    logits = prediction if is_tuple else (prediction,)
    for z in logits or (None,):
        is_logits = isinstance(z, Tensor) and z.is_floating_point() and z.ndim > 1
        if z is None or not is_logits or z.shape[-1] != logits[0].shape[-1]:
            expected = "router logits (..., experts), or a tuple of them"
            raise unexpected(name, expected, format_briefly(prediction))
        is_mask = isinstance(target, Tensor) and target.shape == z.shape[:-1]
        if target is not None and not is_mask:
            expected = f"target a mask of the tokens, {tuple(z.shape[:-1])}, or None"
            raise unexpected(name, expected, format_briefly(target))
    z = torch.cat([of_router.reshape(-1, of_router.shape[-1]) for of_router in logits])
    m = z.new_ones(len(z)) if target is None else target.reshape(-1).to(z.dtype).repeat(len(logits))
    if target is not None:  # 0 times nan is nan
        z = torch.where(m.unsqueeze(-1) != 0, z, 0)
    shapes = tuple(tuple(of_router.shape) for of_router in logits)
    # A sum in float16 overflows at 65504 tokens.
    n = m.sum(dtype=torch.promote_types(m.dtype, torch.float32)).clamp(min=1)
    return Tokens(z, m / n, shapes, is_tuple)
