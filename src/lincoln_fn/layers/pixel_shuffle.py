"""Pixel shuffle: r^2 channels become one of r times the height and width.

Derivation. With a factor r, channel c of y takes its elements from r^2 channels of x in turn:

    y[c, r h + i, r w + j] = x[c r^2 + i r + j, h, w]    for i, j = 0 ... r - 1

Each element of y is an element of x, so dx has the elements of g at x's positions:

    dx[c r^2 + i r + j, h, w] = g[c, r h + i, r w + j]    pixel unshuffle

Cache: the shape of y, and r. Source: Shi et al., "Real-Time Single Image and Video
Super-Resolution Using an Efficient Sub-Pixel Convolutional Neural Network" (CVPR 2016), equation 4.
"""

from __future__ import annotations

import torch

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Moved, PositiveInt, bare, record, stand_in, static


@record
class Cache:
    y: Moved
    upscale_factor: int = static()


def forward(params: tuple[()], x: Elements, *, upscale_factor: int) -> tuple[Moved, Cache]:
    """Compute y[c, r h + i, r w + j] = x[c r^2 + i r + j, h, w]."""
    if x.ndim < 3 or x.shape[-3] % upscale_factor**2:
        expected = "x of shape (..., channels, height, width), the channels a multiple of"
        raise core.unexpected("pixel_shuffle", f"{expected} {upscale_factor**2}", x.shape)
    r, (*batch, channels, height, width) = upscale_factor, x.shape
    # torch leaves a batch without elements in its old shape.
    y = torch.pixel_shuffle(x, r).reshape(*batch, channels // r**2, r * height, r * width)
    return y, Cache(stand_in(y), upscale_factor)


def backward(params: tuple[()], cache: Cache, g: Moved) -> tuple[Elements, tuple[()]]:
    """Compute dx[c r^2 + i r + j, h, w] = g[c, r h + i, r w + j]."""
    r, (*batch, channels, height, width) = cache.upscale_factor, g.shape
    dx = torch.pixel_unshuffle(g, r)
    return dx.reshape(*batch, channels * r**2, height // r, width // r), ()


@core.constructor(kind="moving")
def pixel_shuffle(upscale_factor: PositiveInt) -> Layer:
    """Turn r^2 channels into one of r times the height and width, with r = upscale_factor.

    x has shape (..., channels * r^2, height, width), y (..., channels, r * height, r * width).

    Example:
        >>> pixel_shuffle(2).predict((), torch.tensor([[[1.0]], [[2.0]], [[3.0]], [[4.0]]]))
        tensor([[[1., 2.],
                 [3., 4.]]])
    """
    return bare(Layer, forward, backward)
