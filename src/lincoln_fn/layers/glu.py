"""Gated linear unit: y = a s(b), with s the sigmoid, and a and b the halves of x along one axis.

Derivation. With (ds)/(db) = s (1 - s),

    da = g s
    db = g a s (1 - s)

dx is da and db side by side, as x is a and b.

Cache: x, and the axis.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, bare, check_axis, record, unexpected


@record
class Cache:
    x: Elements
    dim: int = core.static()


def forward(params: tuple[()], x: Elements, *, dim: int) -> tuple[Moved, Cache]:
    """Compute y = a s(b)."""
    check_axis("glu", x, dim)
    if x.shape[dim] % 2:
        raise unexpected("glu", f"x of even size along dim={dim}", x.shape)
    a, b = torch.chunk(x, 2, dim)
    return a * torch.sigmoid(b), Cache(x, dim)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute da = g s and db = g a s (1 - s)."""
    a, b = torch.chunk(cache.x, 2, cache.dim)
    core.check_cotangent("glu", g, a)
    s = torch.sigmoid(b)
    return torch.cat([g * s, g * a * s * (1 - s)], cache.dim), ()


@core.constructor(kind="gated", along="dim")
def glu(dim: int = -1) -> Layer:
    """Multiply one half of x by the sigmoid of the other: y = a / (1 + e^(-b)), with x = [a, b].

    x has an even size along axis dim, and y half of it. Source: Dauphin, Fan, Auli and Grangier,
    "Language Modeling with Gated Convolutional Networks", 2017, equation 1.

    Example:
        >>> glu().predict((), torch.tensor([6.0, 8.0, 0.0, 1e4]))
        tensor([3., 8.])
    """
    return bare(Layer, forward, backward)
