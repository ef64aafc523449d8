"""Pixel unshuffle: one channel becomes r^2 of height and width divided by r.

Derivation. With a factor r, the elements of channel c of x go to r^2 channels of y in turn:

    y[c r^2 + i r + j, h, w] = x[c, r h + i, r w + j]    for i, j = 0 ... r - 1

Each element of y is an element of x, so dx has the elements of g at x's positions:

    dx[c, r h + i, r w + j] = g[c r^2 + i r + j, h, w]    pixel shuffle

Cache: the shape of y, and r.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, PositiveInt, bare, record, stand_in, static


@record
class Cache:
    y: Moved
    downscale_factor: int = static()


def forward(params: tuple[()], x: Elements, *, downscale_factor: int) -> tuple[Moved, Cache]:
    """Compute y[c r^2 + i r + j, h, w] = x[c, r h + i, r w + j]."""
    if x.ndim < 3 or x.shape[-2] % downscale_factor or x.shape[-1] % downscale_factor:
        expected = "x of shape (..., channels, height, width), both sizes multiples of"
        raise core.unexpected("pixel_unshuffle", f"{expected} {downscale_factor}", x.shape)
    r, (*batch, channels, height, width) = downscale_factor, x.shape
    # torch leaves a batch without elements in its old shape.
    y = torch.pixel_unshuffle(x, r).reshape(*batch, channels * r**2, height // r, width // r)
    return y, Cache(stand_in(y), downscale_factor)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx[c, r h + i, r w + j] = g[c r^2 + i r + j, h, w]."""
    r, (*batch, channels, height, width) = cache.downscale_factor, g.shape
    dx = torch.pixel_shuffle(g, r)
    return dx.reshape(*batch, channels // r**2, r * height, r * width), ()


@core.constructor(kind="moving")
def pixel_unshuffle(downscale_factor: PositiveInt) -> Layer:
    """Turn one channel into r^2 of height and width divided by r = downscale_factor.

    x has shape (..., channels, r * height, r * width), y (..., channels * r^2, height, width).

    Example:
        >>> pixel_unshuffle(2).predict((), torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])).flatten()
        tensor([1., 2., 3., 4.])
    """
    return bare(Layer, forward, backward)
