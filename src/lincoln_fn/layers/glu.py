"""Gated linear unit: y = a s(b), s being the sigmoid, a and b the halves of x along one axis.

Derivation. With ds/db = s (1 - s),

    dL/da = g s(b),    dL/db = g a s(b) (1 - s(b)),

and dx holds the two side by side, as x holds a and b. Cache: x, and the axis (Dauphin, Fan, Auli
and Grangier, "Language Modeling with Gated Convolutional Networks", 2017, equation 1).
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.record import record, static
from lincoln_fn.shapes import LayerError, check_axis, check_cache, check_cotangent, check_input


@record
class Cache:
    """The input, and the axis along which it is halved."""

    x: Float[Tensor, "*s"]
    dim: int = static()


def forward(
    params: tuple[()], x: Float[Tensor, "*s"], *, dim: int = -1
) -> tuple[Float[Tensor, "*halved"], Cache]:
    """Compute y = a / (1 + exp(-b)).

    Args:
        params: ().
        x: of any shape with an axis of even size.
        dim: the axis along which x is halved.

    Returns:
        y of x's shape, halved along the axis, and the cache.

    Raises:
        LayerError: if x is not a floating tensor or has no such axis of even size, or params are
            another layer's.

    Example:
        >>> forward((), torch.tensor([6.0, 8.0, 0.0, 1e4]))[0]
        tensor([3., 8.])
    """
    check_input("glu", params, x)
    check_axis("glu", x, dim)
    if x.shape[dim] % 2:
        problem = f"expected x of even size along dim={dim}, got {tuple(x.shape)}"
        raise LayerError("glu", problem)
    return torch.nn.functional.glu(x, dim), Cache(x, dim)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*halved"]
) -> tuple[Float[Tensor, "*s"], tuple[()]]:
    """Compute dL/da = g s(b) and dL/db = g a s(b) (1 - s(b)).

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> backward((), Cache(torch.tensor([6.0, 0.0]), -1), torch.ones(1))[0]
        tensor([0.5000, 1.5000])
    """
    check_cache("glu", cache, Cache)
    shape = list(cache.x.shape)
    shape[cache.dim] //= 2
    check_cotangent("glu", g, cache.x, tuple(shape))
    return torch.ops.aten.glu_backward(g, cache.x, cache.dim), ()
