"""Average pooling over one, two or three spatial axes: y_o = the mean of the x_i in window o.

Derivation. With W_o the positions in window o and n_o the divisor,

    y_o = (1 / n_o) sum_{i in W_o} x_i,

dy_o/dx_i = 1 / n_o where i is in W_o, else 0, and

    dx_i = the sum of g_o / n_o over all windows o that i is in.

Each window spreads its g evenly, and where windows overlap their shares add up. The divisor counts
W_o's elements in x and in the padding, which is of zeros; without `count_include_pad`, in x alone;
what hangs over the padding's end in `ceil_mode` never counts. `divisor_override` is put in place
of every n_o. Cache: a stand-in for x, the window, and how to divide.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.layers._pool import (
    Window,
    as_plane,
    check_windows,
    plane_window,
    pooled_shape,
    window_of,
)
from lincoln_fn.layers._spatial import Sizes, channels_last, unwritten
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """A stand-in for the input, the window, and how its sum is divided."""

    x: Float[Tensor, "*batch_and_spatial"]
    window: Window = static()
    count_include_pad: bool = static()
    divisor_override: int | None = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    kernel_size: Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = the mean of the x_i in window o.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial) or (channels, *spatial).
        kernel_size: of the window, one number a spatial axis; their count is that of the axes.
        stride: steps between windows; None for kernel_size.
        padding: zeros on both sides of each axis.
        ceil_mode: whether a last window may hang over the end.
        count_include_pad: whether the padding counts in the divisor.
        divisor_override: the divisor, if it is not to be counted.

    Returns:
        y of shape (..., channels, *pooled), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor or smaller than a window, hyperparameters
            are out of range, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[1.0, 5.0, 2.0, 3.0]]), kernel_size=(2,))[0]
        tensor([[3.0000, 2.5000]])
    """
    layer = f"avg_pool{len(kernel_size)}d"
    window = window_of(layer, kernel_size, stride, padding, 1, ceil_mode)
    check_windows(layer, params, x, window)
    stand_in = x.new_zeros(()).expand(x.shape)
    cache = Cache(stand_in, window, count_include_pad, divisor_override)
    if window.n == 1:
        y: Tensor = torch.ops.aten.avg_pool2d(as_plane(x), *_arguments(cache))
        return y.squeeze(-2), cache
    if window.n == 2:
        return torch.ops.aten.avg_pool2d(channels_last(x), *_arguments(cache)), cache
    return torch.ops.aten.avg_pool3d(_wide(x), *_arguments(cache)).to(x.dtype), cache


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
        >>> _, cache = forward((), torch.tensor([[1.0, 5.0, 2.0]]), kernel_size=(2,), stride=1)
        >>> backward((), cache, torch.tensor([[10.0, 100.0]]))[0]
        tensor([[ 5., 55., 50.]])
    """
    check_cache("avg_pool", cache, Cache)
    x, window = cache.x, cache.window
    check_cotangent(f"avg_pool{window.n}d", g, x, pooled_shape(tuple(x.shape), window))
    x = unwritten(x) if window.n == 2 else x.new_empty(x.shape)
    if window.n == 1:
        dx: Tensor = torch.ops.aten.avg_pool2d_backward(
            as_plane(g), as_plane(x), *_arguments(cache)
        )
        return dx.squeeze(-2), ()
    if window.n == 2:
        return torch.ops.aten.avg_pool2d_backward(channels_last(g), x, *_arguments(cache)), ()
    dx = torch.ops.aten.avg_pool3d_backward(_wide(g), _wide(x), *_arguments(cache))
    return dx.to(x.dtype), ()


def _arguments(cache: Cache) -> tuple[Sizes, Sizes, Sizes, bool, bool, int | None]:
    """List what ATen's kernels take after the tensors."""
    window = plane_window(cache.window) if cache.window.n == 1 else cache.window
    return (
        window.kernel_size, window.stride, window.padding, window.ceil_mode,
        cache.count_include_pad, cache.divisor_override,
    )  # fmt: skip


def _wide(x: Tensor) -> Tensor:
    """Widen 16-bit numbers, for which ATen has no average over three axes on the CPU."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
