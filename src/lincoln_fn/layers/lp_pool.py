"""Power-average pooling over one to three spatial axes: y_o = (sum_i x_i^p)^(1/p) in window o.

Derivation. With W_o the positions in window o,

    s_o = c_o sum_(i in W_o) x_i^p
    y_o = s_o^(1/p)
    (dy_o)/(dx_i) = (1/p) s_o^(1/p - 1) c_o p x_i^(p - 1) = c_o (x_i / y_o)^(p - 1)    for i in W_o
    dx_i = sum_(o: i in W_o) g_o c_o (x_i / y_o)^(p - 1)

c_o is 1, except for a window that extends beyond the end in `ceil_mode`: n_o of its k elements are
in x, and c_o = k / n_o compensates for the others, as in torch. p = 1 is the sum. For even p
towards infinity, y is the maximum of a window's absolute values.

Where all x_i of a window are 0, y has no derivative for p > 1, and 0 is used; torch's autograd
returns nan there. Powers are computed of x_i / M_o, with M_o the largest absolute value in the
window: x_i^p alone would overflow or underflow where y_o does not.

    y_o = M_o (c_o sum_(i in W_o) (x_i / M_o)^p)^(1/p)

Cache: x, y, the window and p. Source: Gulcehre, Cho, Pascanu and Bengio, "Learned-Norm Pooling for
Deep Feedforward and Recurrent Neural Networks" (2014).
"""

from __future__ import annotations

from functools import partial
from math import inf
from typing import Annotated, TypeAlias

import torch

from lincoln_fn import core
from lincoln_fn.core import Image, Layer, Pooled, PositiveSizes, Sizes, bare, record, static
from lincoln_fn.layers.common import pooling
from lincoln_fn.layers.common.pooling import Window

Power: TypeAlias = Annotated[float, core.at_least(1)]


@record
class Cache:
    x: Image
    y: Pooled
    window: Window = static()
    norm_type: float = static()


def forward(
    params: tuple[()], x: Image, *, norm_type: float, kernel_size: Sizes,
    stride: int | Sizes | None, ceil_mode: bool,
) -> tuple[Pooled, Cache]:  # fmt: skip
    """Compute y_o = M_o (c_o sum of (x_i / M_o)^p in window o)^(1/p)."""
    n = len(kernel_size)
    window = pooling.window_of("lp_pool", n, kernel_size, stride, ceil_mode=ceil_mode)
    pooling.check_windows("lp_pool", x, window)
    positions = pooling.window_positions(window, x)
    seen = pooling.picked(x, positions, n, 0.0).to(pooling.summed_in(x))
    largest = seen.abs().amax(-1, keepdim=True)
    scale = torch.where((largest > 0) & (largest < inf), largest, 1)
    s = _c(positions, x, window) * ((seen / scale) ** norm_type).sum(-1)
    y = (scale.squeeze(-1) * s ** (1 / norm_type)).to(x.dtype)
    return y, Cache(x, y, window, norm_type)


def backward(params: tuple[()], cache: Cache, g: Pooled) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o c_o (x_i / y_o)^(p - 1) over all windows o that i is in."""
    x, y, window, p = cache.x, cache.y, cache.window, cache.norm_type
    positions = pooling.window_positions(window, x)
    # 1 outside x, because a power of 0 would have no derivative.
    seen = pooling.picked(x, positions, window.n, 1.0).to(pooling.summed_in(x))
    slope = (seen / torch.where(y == 0, 1, y).unsqueeze(-1)) ** (p - 1)
    if p > 1:
        slope = torch.where((y == 0).unsqueeze(-1), 0, slope)
    parts = (g * _c(positions, x, window)).unsqueeze(-1) * slope
    return pooling.added_up(parts, positions, x, window.n), ()


def _c(positions: pooling.Positions, x: Image, window: Window) -> Pooled:
    """Compute c_o = k / n_o."""
    return (positions.shape[-1] / pooling.sizes_in(x, positions, window.n)).to(pooling.summed_in(x))


def _lp_pool_nd(
    n: int, norm_type: Power, kernel_size: PositiveSizes, stride: PositiveSizes | None = None, *,
    ceil_mode: bool = False,
) -> Layer:  # fmt: skip
    """Make a power-average pooling of x of shape (channels, *spatial), or a batch of these.

    y is (sum of x_i^p)^(1/p) of each window; it is nan where the sum is negative, which can happen
    for odd p.

    Args:
        norm_type: the power p, from 1 to below infinity.
        kernel_size: of the window; like stride, one number for all axes or one for each.

    Example:
        >>> lf.lp_pool1d(2, 2).predict((), torch.tensor([[3.0, 4.0, 6.0, 8.0]]))
        tensor([[ 5., 10.]])
    """
    window = pooling.window_of("lp_pool", n, kernel_size, stride)
    return bare(Layer, partial(forward, kernel_size=window.kernel_size), backward)


lp_pool1d, lp_pool2d, lp_pool3d = core.over_axes(_lp_pool_nd, kind="average")
