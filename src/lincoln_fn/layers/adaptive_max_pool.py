"""Adaptive max pooling over one, two or three spatial axes, to an output of a given size.

Derivation. Along an axis of L elements, with n windows, window o goes from floor(o L / n) up to,
but not including, ceil((o + 1) L / n), as in adaptive average pooling. With m(o) the position of
the largest element in window o, the first of several equal ones,

    y_o = x_(m(o))
    dx_i = sum_(o: m(o) = i) g_o    as in max pooling

With `return_indices` the output is (y, m), and g is (dy, None).

Cache: m(o), flat within x's spatial axes; and the shape of x.
"""

from __future__ import annotations

from functools import partial

from lincoln_fn.core import Arrays, Image, Layer, bare, over_axes
from lincoln_fn.layers.common import pooling
from lincoln_fn.layers.common.pooling import OutputSize
from lincoln_fn.layers.max_pool import Cache, given_back, pooled


def forward(
    params: tuple[()], x: Image, *, output_size: tuple[int | None, ...], return_indices: bool
) -> tuple[Arrays, Cache]:
    """Compute y_o = x_(m(o)), the largest x_i in window o."""
    n = len(output_size)
    pooling.check_spatial("adaptive_max_pool", x, n)
    return pooled(x, pooling.adaptive_positions(output_size, x), n, return_indices)


def backward(params: tuple[()], cache: Cache, g: Arrays) -> tuple[Image, tuple[()]]:
    """Compute dx_i = sum of g_o over all windows o with m(o) = i."""
    return given_back("adaptive_max_pool", cache, g), ()


def _adaptive_max_pool_nd(
    n: int, output_size: OutputSize, *, return_indices: bool = False,
) -> Layer:  # fmt: skip
    """Make an adaptive max pooling of x of shape (channels, *spatial), or a batch of these.

    Args:
        output_size: the size of y, one number for all axes or one for each; None keeps that of x.
        return_indices: whether the output is (y, indices), as in `max_pool2d`.

    Example:
        >>> lf.adaptive_max_pool1d(2).predict((), torch.tensor([[1.0, 5.0, 3.0, 4.0]]))
        tensor([[5., 4.]])
    """
    sizes = pooling.output_sizes(f"adaptive_max_pool{n}d", output_size, n)
    return bare(Layer, partial(forward, output_size=sizes), backward)


adaptive_max_pool1d, adaptive_max_pool2d, adaptive_max_pool3d = over_axes(
    _adaptive_max_pool_nd, kind="max_pool"
)
