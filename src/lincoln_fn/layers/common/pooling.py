"""Shared by the pooling layers: their windows, and the maps from x to its windows and back.

A window has k elements d apart, and the windows start s apart. A window covers d (k - 1) + 1
elements. So on an axis of size L, padded by p on both sides,

    floor((L + 2p - d (k - 1) - 1) / s) + 1

windows fit. With `ceil_mode` the quotient is rounded up, so that a last window may extend beyond
the end, unless it would start in the padding after x.

Windows of every kind are given by the flat positions of their elements within x's spatial axes:
integers of shape (*pooled, k), in row-major order. The N positions in x are 0 to N - 1; N means an
element outside x. `picked` reads x at positions, and its transpose `added_up` adds to them: if y =
picked(x), then dx = added_up(g).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Image, Pooled, PositiveInt, Sizes, require, unexpected
from lincoln_fn.layers.common.inputs import check_image, per_axis

# The positions in each window, for all planes or for each: flat ones, or those along one axis.
Positions: TypeAlias = Int[Tensor, "*planes_and_pooled k"]
OutputSize: TypeAlias = PositiveInt | tuple[PositiveInt | None, ...] | None


class Window(NamedTuple):
    """A window and how it moves, with one number per spatial axis."""

    kernel_size: Sizes
    stride: Sizes
    padding: Sizes
    dilation: Sizes
    ceil_mode: bool

    @property
    def n(self) -> int:
        """The number of spatial axes."""
        return len(self.kernel_size)


def window_of(
    family: str, n: int, kernel_size: int | Sizes, stride: int | Sizes | None = None,
    padding: int | Sizes = 0, dilation: int | Sizes = 1, ceil_mode: bool = False,
) -> Window:  # fmt: skip
    """Make a window over n axes of hyperparameters as users write them, and check them."""
    layer = f"{family}{n}d"
    window = Window(
        per_axis(layer, "kernel_size", kernel_size, n),
        per_axis(layer, "stride", kernel_size if stride is None else stride, n),
        per_axis(layer, "padding", padding, n),
        per_axis(layer, "dilation", dilation, n),
        ceil_mode,
    )
    for k, p, d in zip(window.kernel_size, window.padding, window.dilation, strict=True):
        most = (d * (k - 1) + 1) // 2
        if p > most:
            expected = f"padding of at most {most} for kernel_size={k} and dilation={d}"
            raise unexpected(layer, expected, p)
    return window


def pooled_shape(shape: Sizes, window: Window) -> Sizes:
    """Find the shape of y, whose spatial sizes are below 1 where no window fits."""
    counts = []
    for size, k, s, p, d in zip(shape[-window.n :], *window[:4], strict=True):
        room = size + 2 * p - d * (k - 1) - 1
        count = (room + s - 1 if window.ceil_mode else room) // s + 1
        starts_behind_x = window.ceil_mode and (count - 1) * s >= size + p
        counts.append(count - 1 if starts_behind_x else count)
    return (*shape[: -window.n], *counts)


def check_windows(family: str, x: Tensor, window: Window) -> None:
    """Check that x has the axes that a window pools over, and room for one window."""
    check_spatial(family, x, window.n)
    if min(pooled_shape(tuple(x.shape), window)[-window.n :]) < 1:
        expected = f"x with room for a window of {window.kernel_size}"
        raise unexpected(f"{family}{window.n}d", expected, x.shape)


def check_spatial(family: str, x: Tensor, n: int) -> None:
    """Check that x has channels and n spatial axes, none of them empty."""
    layer = f"{family}{n}d"
    check_image(layer, x, n)
    if 0 in x.shape[-n - 1 :]:
        raise unexpected(layer, "x with no empty axis", x.shape)


def output_sizes(layer: str, output_size: OutputSize, n: int) -> tuple[int | None, ...]:
    """Write output_size as one number per axis, and check their number."""
    sizes = output_size if isinstance(output_size, tuple) else (output_size,) * n
    require(len(sizes) == n, layer, f"output_size as an int or a tuple of {n}", output_size)
    return sizes


def axis_positions(window: Window, x: Tensor) -> list[Positions]:
    """List by axis the positions in each window, o s - p + t d for its element t."""
    counts = pooled_shape(tuple(x.shape), window)[-window.n :]
    places = []
    for count, k, s, p, d in zip(counts, *window[:4], strict=True):
        starts = s * torch.arange(count, device=x.device) - p
        places.append(starts.unsqueeze(-1) + d * torch.arange(k, device=x.device))
    return places


def window_positions(window: Window, x: Tensor) -> Positions:
    """List the flat positions in each window."""
    return flat_positions(axis_positions(window, x), x)


def adaptive_positions(output_size: tuple[int | None, ...], x: Tensor) -> Positions:
    """List the flat positions in each window, floor(o L / n) to ceil((o + 1) L / n) by axis."""
    places = []
    for wanted, size in zip(output_size, x.shape[-len(output_size) :], strict=True):
        n = size if wanted is None else wanted
        k = max(-(-(o + 1) * size // n) - o * size // n for o in range(n))
        o = torch.arange(n, device=x.device).unsqueeze(-1)
        at = o * size // n + torch.arange(k, device=x.device)
        places.append(torch.where(at < -(-(o + 1) * size // n), at, -1))
    return flat_positions(places, x)


def flat_positions(places: Sequence[Positions], x: Tensor) -> Positions:
    """Combine positions by axis to flat ones, N where one is outside of x."""
    spatial = x.shape[-len(places) :]
    count = prod(spatial)
    flat = torch.zeros(1, dtype=torch.int64, device=x.device)
    for axis, (at, size) in enumerate(zip(places, spatial, strict=True)):
        # So far below zero that the sum stays negative for any other axes.
        at = torch.where((at >= 0) & (at < size), at, -count - 1)
        *planes, pooled, k = at.shape
        at = at.reshape(*planes, *(1 for _ in range(axis)), pooled, 1, k)
        flat = (flat[..., None, :, None] * size + at).flatten(-2)
    return torch.where(flat < 0, count, flat)


def picked(x: Image, positions: Positions, n: int, outside: float) -> Float[Tensor, "*pooled k"]:
    """Read x, with n spatial axes, at flat positions; outside x is a given number."""
    planes = x.shape[:-n]
    at = positions.expand(*planes, *positions.shape[-n - 1 :])
    flat_x = torch.nn.functional.pad(x.flatten(-n), (0, 1), value=outside)
    return flat_x.gather(-1, at.flatten(len(planes))).reshape(at.shape)


def added_up(
    parts: Float[Tensor, "*batch_and_pooled k"], positions: Positions, like: Image, n: int
) -> Image:
    """Sum the parts that belong to each position of an x like this: the transpose of `picked`.

    Many small numbers would stop growing in bfloat16 (256 + 1 = 256), so they are added up in
    float32 at least.
    """
    *planes, count = like.flatten(-n).shape
    at = positions.expand(*planes, *positions.shape[-n - 1 :]).flatten(len(planes))
    wide = parts.flatten(len(planes)).to(summed_in(parts))
    sums = wide.new_zeros(*planes, count + 1).scatter_add(-1, at, wide)
    return sums[..., :count].reshape(like.shape).to(like.dtype)


def sums_of(x: Image, positions: Positions, n: int) -> Pooled:
    """Add up the elements of each window, in float32 at least."""
    return picked(x, positions, n, 0.0).sum(-1, dtype=summed_in(x))


def spread(share: Pooled, positions: Positions, like: Image, n: int) -> Image:
    """Give every element of a window the same share of it: the transpose of `sums_of`."""
    parts = share.unsqueeze(-1).expand(*share.shape, positions.shape[-1])
    return added_up(parts, positions, like, n)


def sizes_in(x: Image, positions: Positions, n: int) -> Int[Tensor, "*pooled"]:
    """Count n_o, the elements of each window that are in x."""
    return (positions < prod(x.shape[-n:])).sum(-1)


def summed_in(x: Tensor) -> torch.dtype:
    """Choose the dtype that sums of x are computed in: float32 at least."""
    return torch.promote_types(x.dtype, torch.float32)
