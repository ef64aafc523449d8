"""Power-average pooling over one to three spatial axes: y_o = (sum of x_i^p in window o)^(1/p).

Derivation. With W_o the positions in window o, s_o = sum_{i in W_o} x_i^p and y_o = s_o^(1/p),

    dy_o/dx_i = (1/p) s_o^(1/p - 1) p x_i^(p-1) = y_o^(1-p) x_i^(p-1)   where i is in W_o, else 0,

    dx_i = x_i^(p-1) times the sum of g_o y_o^(1-p) over all windows o that i is in.

Where all x_i of a window are 0, y has no derivative for p > 1, and 0 is taken; torch's autograd
gives nan there. p = 1 is the sum, and p towards infinity the maximum of a window's absolute values
for even p. The sums are k times the means of average pooling, for k elements a window. So a window
that hangs over the end in `ceil_mode` counts its sum k / n_o times, with the n_o elements that it
has in x, and so does its gradient; torch does the same. Cache: x, y, p, and average pooling's.
"""

from __future__ import annotations

from math import inf, prod

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers import avg_pool
from lincoln_fn.layers._pool import check_windows, window_of
from lincoln_fn.layers._spatial import Sizes
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """The input, the output, what average pooling remembers, and the power."""

    x: Float[Tensor, "*batch_and_spatial"]
    y: Float[Tensor, "*batch_and_pooled"]
    mean: avg_pool.Cache
    norm_type: float = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    norm_type: float,
    kernel_size: Sizes,
    stride: int | Sizes | None = None,
    ceil_mode: bool = False,
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = (sum of x_i^p in window o)^(1/p).

    Args:
        params: ().
        x: of shape (batch, channels, *spatial) or (channels, *spatial). Where a sum is negative,
            as for odd p it may be, y is nan.
        norm_type: the power p, of at least 1.
        kernel_size: of the window, one number a spatial axis; their count is that of the axes.
        stride: steps between windows; None for kernel_size.
        ceil_mode: whether a last window may hang over the end.

    Returns:
        y of shape (..., channels, *pooled), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor or smaller than a window, hyperparameters
            are out of range, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[3.0, 4.0, 6.0, 8.0]]), norm_type=2, kernel_size=(2,))[0]
        tensor([[ 5., 10.]])
    """
    layer = f"lp_pool{len(kernel_size)}d"
    window = window_of(layer, kernel_size, stride, 0, 1, ceil_mode)
    check_windows(layer, params, x, window)
    mean, cache = avg_pool.forward(
        (), x**norm_type, kernel_size=kernel_size, stride=stride, ceil_mode=ceil_mode
    )
    y = (prod(kernel_size) * mean) ** (1 / norm_type)
    return y, Cache(x, y, cache, norm_type)


def backward(
    params: tuple[()], cache: Cache, g: Float[Tensor, "*batch_and_pooled"]
) -> tuple[Float[Tensor, "*batch_and_spatial"], tuple[()]]:
    """Compute dx_i = x_i^(p-1) times the sum of g_o y_o^(1-p) over the windows that i is in.

    Args:
        params: ().
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and no dparams.

    Raises:
        LayerError: if g does not mirror y, or the cache is another layer's.

    Example:
        >>> _, cache = forward((), torch.tensor([[3.0, 4.0]]), norm_type=2, kernel_size=(2,))
        >>> backward((), cache, torch.tensor([[10.0]]))[0]
        tensor([[6., 8.]])
    """
    check_cache("lp_pool", cache, Cache)
    kernel_size, p = cache.mean.window.kernel_size, cache.norm_type
    check_cotangent(f"lp_pool{len(kernel_size)}d", g, cache.y)
    slope = cache.y ** (1 - p)
    slope = slope.masked_fill_(slope == inf, 0)
    summed, _ = avg_pool.backward((), cache.mean, prod(kernel_size) * g * slope)
    return cache.x ** (p - 1) * summed, ()
