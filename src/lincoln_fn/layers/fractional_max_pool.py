"""Fractional max pooling over two or three spatial axes: windows start at random positions.

Max pooling divides the size of an axis by a whole number. Here the output may have any size, and
each forward pass pools other windows. Source: Graham, "Fractional Max-Pooling" (2014), with
overlapping windows.

Derivation. Take an axis of L elements, n windows of k elements, and a sample u from [0, 1) for each
axis of each channel of each example. Then

    alpha = (L - k) / (n - 1)
    a_o = floor(alpha (o + u)) - floor(alpha u)    for o < n - 1
    a_(n - 1) = L - k

are the starts of the windows. They rise from 0 in steps of floor(alpha) or ceil(alpha); the last
window starts at L - k. The samples do not depend on x, so with m(o) the position of the largest
element in window o, the first of several equal ones,

    y_o = x_(m(o))
    dx_i = sum_(o: m(o) = i) g_o    as in max pooling

With `return_indices` the output is (y, m), and g is (dy, None).

The key is in params, as a state: `forward` with the same params draws the same samples, and
`advance` returns params with the next key, key.fold_in(0). `predict` draws from the current key, as
`forward` does: the windows have no mean that it could use, and torch draws in evaluation, too.

Cache: m(o), flat within x's spatial axes; and the shape of x.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Image, Key, Layer, PositiveSizes, Sizes, keys, require
from lincoln_fn.layers.common.inputs import per_axis
from lincoln_fn.layers.common.pooling import check_spatial, flat_positions, summed_in
from lincoln_fn.layers.dropout import Params, advance, init
from lincoln_fn.layers.max_pool import Cache, given_back, pooled

Ratio: TypeAlias = Annotated[float, core.Range("between 0 and 1", lambda ratio: 0 < ratio < 1)]

Ratios = tuple[float, ...]


def forward(
    params: Params, x: Image, *, kernel_size: Sizes, output_size: Sizes | None,
    output_ratio: Ratios | None, return_indices: bool,
) -> tuple[Arrays, Cache]:  # fmt: skip
    """Compute y_o = x_(m(o)), the largest x_i in window o, with starts drawn from the key."""
    n = len(kernel_size)
    check_spatial("fractional_max_pool", x, n)
    spatial = x.shape[-n:]
    if output_ratio is not None:
        output_size = tuple(int(s * r) for s, r in zip(spatial, output_ratio, strict=True))
    sizes = output_size or ()
    fits = zip(spatial, kernel_size, sizes, strict=True)
    if not all(1 <= size <= length - k + 1 for length, k, size in fits):
        expected = f"x with room for {sizes} windows of {kernel_size}"
        raise core.unexpected(f"fractional_max_pool{n}d", expected, x.shape)
    samples = draw_samples(params.key, x, n)
    shapes = zip(spatial, kernel_size, sizes, strict=True)
    # As in torch, the first sample is for the last axis in 2d, and for the first axis in 3d.
    drawn = (samples.flip(-1) if n == 2 else samples).unbind(-1)
    places = [_positions(u, *shape) for u, shape in zip(drawn, shapes, strict=True)]
    return pooled(x, flat_positions(places, x), n, return_indices)


def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Image, Params]:
    """Compute dx_i = sum of g_o over all windows o with m(o) = i; the key has no gradient."""
    return given_back("fractional_max_pool", cache, g), params


def draw_samples(
    key: Key, x: Float[Tensor, "*planes spatial"], n: int
) -> Float[Tensor, "*planes n"]:
    """Draw u from [0, 1) for each channel of each example and each of n axes."""
    return keys.uniform(key.near(x), (*x.shape[:-n], n), dtype=summed_in(x)).to(x.device)


def _positions(
    u: Float[Tensor, "*planes"], length: int, k: int, count: int
) -> Int[Tensor, "*planes pooled k"]:
    """List the positions in each window: a_o + t for its element t."""
    o = torch.arange(count, device=u.device)
    alpha = (length - k) / max(count - 1, 1)
    u = u.unsqueeze(-1)
    starts = ((o + u) * alpha).floor() - (u * alpha).floor()
    starts = torch.where(o == count - 1, length - k, starts).long()
    return starts.unsqueeze(-1) + torch.arange(k, device=u.device)


def _fractional_max_pool_nd(
    n: int, kernel_size: PositiveSizes, output_size: PositiveSizes | None = None,
    output_ratio: Ratio | tuple[Ratio, ...] | None = None, *, return_indices: bool = False,
) -> Layer:  # fmt: skip
    """Make a fractional max pooling of x of shape (channels, *spatial), or a batch of these.

    The windows start at random positions, drawn for each channel of each example, both in `forward`
    and in `predict`, as in torch. The params are the key that they are drawn from.

    Args:
        kernel_size: of the windows; like the next two, one number for all axes or one for each.
        output_size: of y; None if output_ratio is given.
        output_ratio: of y's sizes to x's, between 0 and 1, rounded down; or give output_size.
        return_indices: whether the output is (y, indices), as in `max_pool2d`.

    Raises:
        LayerError: if not exactly one of output_size and output_ratio is given.

    Example:
        >>> layer = lf.fractional_max_pool2d(2, output_ratio=0.7)
        >>> x = torch.arange(16.0).view(1, 4, 4)
        >>> layer.predict(layer.init(lf.Key(0), x), x)
        tensor([[[ 5.,  7.],
                 [13., 15.]]])
    """
    layer = f"fractional_max_pool{n}d"
    just_one = (output_size is None) != (output_ratio is None)
    require(just_one, layer, "one of output_size and output_ratio", (output_size, output_ratio))
    kernel = per_axis(layer, "kernel_size", kernel_size, n)
    sizes = None if output_size is None else per_axis(layer, "output_size", output_size, n)
    ratios = (output_ratio,) * n if isinstance(output_ratio, float) else output_ratio
    fits = ratios is None or len(ratios) == n
    require(fits, layer, f"output_ratio as a number or a tuple of {n}", output_ratio)
    run = partial(forward, kernel_size=kernel, output_size=sizes, output_ratio=ratios)
    return core.bare(Layer, run, backward, init, advance=advance)


_, fractional_max_pool2d, fractional_max_pool3d = core.over_axes(
    _fractional_max_pool_nd, kind="max_pool"
)
