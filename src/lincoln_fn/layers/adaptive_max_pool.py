"""Adaptive max pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, of which n are to come, window o goes from floor(o L / n)
up to, but not including, ceil((o + 1) L / n), as in adaptive average pooling. With m(o) where
window o has its largest element, the first of several, y_o = x_m(o) and, as in max pooling,

    dx_i = the sum of g_o over all windows o with m(o) = i.

Cache: the flat position m(o) within x's spatial axes; and x, of which only shape, dtype and memory
order count (the layer before mostly keeps it anyway).
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.layers._pool import adapted_sizes, as_plane, check_spatial
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """The input, where each window's largest element is in it, and the number of spatial axes."""

    x: Float[Tensor, "*batch_and_spatial"]
    indices: Int[Tensor, "*batch_and_pooled"]
    n: int = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    output_size: tuple[int | None, ...],
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = the largest x_i in window o.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial) or (channels, *spatial).
        output_size: of y, one number a spatial axis, None for x's own size; their count is that of
            the axes.

    Returns:
        y of shape (..., channels, *output_size), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[1.0, 5.0, 3.0, 4.0]]), output_size=(2,))[0]
        tensor([[5., 4.]])
    """
    n = len(output_size)
    check_spatial(f"adaptive_max_pool{n}d", params, x, n)
    sizes = adapted_sizes(output_size, x)
    if n == 1:
        y, indices = torch.ops.aten.adaptive_max_pool2d(as_plane(x), (1, *sizes))
        return y.squeeze(-2), Cache(x, indices.squeeze(-2), n)
    pool = torch.ops.aten.adaptive_max_pool2d if n == 2 else torch.ops.aten.adaptive_max_pool3d
    y, indices = pool(x, sizes)
    return y, Cache(x, indices, n)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_pooled"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = the sum of g_o over all windows whose largest element is i.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.tensor([[1.0, 5.0, 3.0]]), output_size=(2,))
        >>> backward((), cache, torch.tensor([[10.0, 100.0]]))[0]
        tensor([[  0., 110.,   0.]])
    """
    check_cache("adaptive_max_pool", cache, Cache)
    x, indices = cache.x, cache.indices
    check_cotangent(f"adaptive_max_pool{cache.n}d", g, x, tuple(indices.shape))
    if cache.n == 1:
        dx: Tensor = torch.ops.aten.adaptive_max_pool2d_backward(
            as_plane(g), as_plane(x), as_plane(indices)
        )
        return dx.squeeze(-2), ()
    if cache.n == 2:
        return torch.ops.aten.adaptive_max_pool2d_backward(g, x, indices), ()
    return torch.ops.aten.adaptive_max_pool3d_backward(g, x, indices), ()
