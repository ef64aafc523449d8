"""Max pooling over one, two or three spatial axes: y_o = the largest x_i in window o.

Derivation. Let m(o) be where window o has its largest element; of several that are equal, the
first, in the order of memory of a contiguous x, is taken, as torch does. Near x, y_o = x_m(o), so
dy_o/dx_i = 1 where i = m(o), else 0, and

    dx_i = the sum of g_o over all windows o with m(o) = i.

Windows that overlap may share their largest element, and their g_o add up; an element that is
largest nowhere gets 0. Padding stands for -inf, which is never chosen over an element of x.

Cache: the flat position m(o) within x's spatial axes, a stand-in for x, and the window.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.layers._pool import Window, as_plane, check_windows, plane_window, window_of
from lincoln_fn.layers._spatial import Sizes, channels_last, unwritten
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent


@record
class Cache:
    """A stand-in for the input, where each window's largest element is in it, and the window."""

    x: Float[Tensor, "*batch_and_spatial"]
    indices: Int[Tensor, "*batch_and_pooled"]
    window: Window = static()


def forward(
    params: tuple[()],
    x: Float[Tensor, "*batch_and_spatial"],
    *,
    kernel_size: Sizes,
    stride: int | Sizes | None = None,
    padding: int | Sizes = 0,
    dilation: int | Sizes = 1,
    ceil_mode: bool = False,
) -> tuple[Float[Tensor, "*batch_and_pooled"], Cache]:
    """Compute y_o = the largest x_i in window o.

    Args:
        params: ().
        x: of shape (batch, channels, *spatial) or (channels, *spatial).
        kernel_size: of the window, one number a spatial axis; their count is that of the axes.
        stride: steps between windows; None for kernel_size.
        padding: elements of -inf on both sides of each axis.
        dilation: steps between a window's elements.
        ceil_mode: whether a last window may hang over the end.

    Returns:
        y of shape (..., channels, *pooled), and the cache.

    Raises:
        LayerError: if x is not such a floating tensor or smaller than a window, hyperparameters
            are out of range, or params are another layer's.

    Example:
        >>> forward((), torch.tensor([[1.0, 5.0, 2.0, 3.0]]), kernel_size=(2,))[0]
        tensor([[5., 3.]])
    """
    layer = f"max_pool{len(kernel_size)}d"
    window = window_of(layer, kernel_size, stride, padding, dilation, ceil_mode)
    check_windows(layer, params, x, window)
    stand_in = x.new_zeros(()).expand(x.shape)
    if window.n == 1:
        y, indices = torch.ops.aten.max_pool2d_with_indices(as_plane(x), *plane_window(window))
        return y.squeeze(-2), Cache(stand_in, indices.squeeze(-2), window)
    if window.n == 2:
        y, indices = torch.ops.aten.max_pool2d_with_indices(channels_last(x), *window)
    else:
        y, indices = torch.ops.aten.max_pool3d_with_indices(_in_order(x), *window)
    return y, Cache(stand_in, indices, window)


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
        >>> _, cache = forward((), torch.tensor([[1.0, 5.0, 2.0]]), kernel_size=(2,), stride=1)
        >>> backward((), cache, torch.tensor([[10.0, 100.0]]))[0]
        tensor([[  0., 110.,   0.]])
    """
    check_cache("max_pool", cache, Cache)
    x, indices, window = cache.x, cache.indices, cache.window
    check_cotangent(f"max_pool{window.n}d", g, x, tuple(indices.shape))
    x = unwritten(x) if window.n == 2 else x.new_empty(x.shape)
    if window.n == 1:
        dx: Tensor = torch.ops.aten.max_pool2d_with_indices_backward(
            as_plane(g), as_plane(x), *plane_window(window), as_plane(indices)
        )
        return dx.squeeze(-2), ()
    if window.n == 2:
        g = channels_last(g)
        return torch.ops.aten.max_pool2d_with_indices_backward(g, x, *window, indices), ()
    g = _in_order(g)
    return torch.ops.aten.max_pool3d_with_indices_backward(g, x, *window, indices), ()


def _in_order(x: Tensor) -> Tensor:
    """Give (channels, depth, height, width) the order that ATen wants: it refuses channels-last."""
    return x.contiguous() if x.ndim == 4 else x
