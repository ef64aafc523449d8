"""Adaptive average pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, of which n are to come, window o goes from floor(o L / n)
up to, but not including, ceil((o + 1) L / n); neighbours share an element where n does not divide
L. With W_o the positions in window o and n_o their number,

    y_o = (1 / n_o) sum_{i in W_o} x_i,    dx_i = the sum of g_o / n_o over all o with i in W_o.

Cache: x, of which only shape, dtype and memory order count (the layer before mostly keeps it
anyway), and the output's size.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._pool import adapted_sizes, as_plane, check_spatial
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """The input, and the sizes of the output's spatial axes."""

    x: Float[Tensor, "*batch_and_spatial"]
    output_size: Sizes = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    output_size: tuple[int | None, ...],
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = the mean of the x_i in window o.

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
        >>> forward((), torch.tensor([[1.0, 5.0, 3.0]]), output_size=(2,))[0]
        tensor([[3., 4.]])
    """
    n = len(output_size)
    check_spatial(f"adaptive_avg_pool{n}d", params, x, n)
    sizes = adapted_sizes(output_size, x)
    if n == 1:
        y: Tensor = torch.ops.aten._adaptive_avg_pool2d(as_plane(x), (1, *sizes))
        return y.squeeze(-2), Cache(x, sizes)
    pool = torch.ops.aten._adaptive_avg_pool2d if n == 2 else torch.ops.aten._adaptive_avg_pool3d
    return pool(x, sizes), Cache(x, sizes)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_pooled"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = the sum of g_o / n_o over all windows o that i is in.

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
        tensor([[ 5., 55., 50.]])
    """
    check_cache("adaptive_avg_pool", cache, Cache)
    x, n = cache.x, len(cache.output_size)
    check_cotangent(f"adaptive_avg_pool{n}d", g, x, (*x.shape[:-n], *cache.output_size))
    if n == 1:
        dx: Tensor = torch.ops.aten._adaptive_avg_pool2d_backward(as_plane(g), as_plane(x))
        return dx.squeeze(-2), ()
    if n == 2:
        return torch.ops.aten._adaptive_avg_pool2d_backward(g, x), ()
    return torch.ops.aten._adaptive_avg_pool3d_backward(g, x), ()
