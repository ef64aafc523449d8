"""Windows as positions in x, and the maps from x to its windows and back.

Windows of every kind are given by the flat positions of their elements within x's spatial axes:
integers of shape (*pooled, k), in row-major order. The N positions in x are 0 to N - 1; N means an
element outside x. `picked` reads x at positions, and its transpose `added_up` adds to them: if y =
picked(x), then dx = added_up(g).
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.layers.common.pooling import Window, pooled_shape
from lincoln_fn.layers.common.shapes import Image


def axis_positions(window: Window, x: Tensor) -> list[Int[Tensor, "pooled k"]]:
    """List by axis the positions in each window, o s - p + t d for its element t.

    Example:
        >>> from lincoln_fn.layers.common.pooling import window_of
        >>> axis_positions(window_of("max_pool", 1, 2, padding=1), torch.zeros(1, 3))
        [tensor([[-1,  0],
                [ 1,  2]])]
    """
    counts = pooled_shape(tuple(x.shape), window)[-window.n :]
    places = []
    for count, k, s, p, d in zip(counts, *window[:4], strict=True):
        starts = s * torch.arange(count, device=x.device) - p
        places.append(starts.unsqueeze(-1) + d * torch.arange(k, device=x.device))
    return places


def window_positions(window: Window, x: Tensor) -> Int[Tensor, "*pooled k"]:
    """List the flat positions in each window.

    Example:
        >>> from lincoln_fn.layers.common.pooling import window_of
        >>> window_positions(window_of("max_pool", 1, 2, padding=1), torch.zeros(1, 3))
        tensor([[3, 0],
                [1, 2]])
    """
    return flat_positions(axis_positions(window, x), x)


def adaptive_positions(output_size: tuple[int | None, ...], x: Tensor) -> Int[Tensor, "*pooled k"]:
    """List the flat positions in each window, from floor(o L / n) to ceil((o + 1) L / n) by axis.

    Example:
        >>> adaptive_positions((2,), torch.zeros(1, 3))
        tensor([[0, 1],
                [1, 2]])
    """
    places = []
    for wanted, size in zip(output_size, x.shape[-len(output_size) :], strict=True):
        n = size if wanted is None else wanted
        k = max(-(-(o + 1) * size // n) - o * size // n for o in range(n))
        o = torch.arange(n, device=x.device).unsqueeze(-1)
        at = o * size // n + torch.arange(k, device=x.device)
        places.append(torch.where(at < -(-(o + 1) * size // n), at, -1))
    return flat_positions(places, x)


def flat_positions(
    places: Sequence[Int[Tensor, "*planes pooled k"]], x: Tensor
) -> Int[Tensor, "*planes_and_pooled k"]:
    """Combine positions by axis to flat ones, N where one is outside of x.

    Example:
        >>> flat_positions([torch.tensor([[-1, 0], [1, 2]])], torch.zeros(1, 3))
        tensor([[3, 0],
                [1, 2]])
    """
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


def picked(
    x: Image, positions: Int[Tensor, "*planes_and_pooled k"], n: int, outside: float
) -> Float[Tensor, "*batch_and_pooled k"]:
    """Read x, with n spatial axes, at flat positions; outside x is a given number.

    Example:
        >>> picked(torch.tensor([[5.0, 6.0, 7.0]]), torch.tensor([[3, 0], [1, 2]]), 1, 0.0)
        tensor([[[0., 5.],
                 [6., 7.]]])
    """
    planes = x.shape[:-n]
    at = positions.expand(*planes, *positions.shape[-n - 1 :])
    flat_x = torch.nn.functional.pad(x.flatten(-n), (0, 1), value=outside)
    return flat_x.gather(-1, at.flatten(len(planes))).reshape(at.shape)


def added_up(
    parts: Float[Tensor, "*batch_and_pooled k"], positions: Int[Tensor, "*planes_and_pooled k"],
    like: Image, n: int,
) -> Image:  # fmt: skip
    """Sum the parts that belong to each position of an x like this: the transpose of `picked`.

    Many small numbers would stop growing in bfloat16 (256 + 1 = 256), so they are added up in
    float32 at least.

    Example:
        >>> parts = torch.tensor([[[1.0, 2.0], [3.0, 4.0]]])
        >>> added_up(parts, torch.tensor([[3, 0], [0, 2]]), torch.zeros(1, 3), 1)
        tensor([[5., 0., 4.]])
    """
    *planes, count = like.flatten(-n).shape
    at = positions.expand(*planes, *positions.shape[-n - 1 :]).flatten(len(planes))
    wide = parts.flatten(len(planes)).to(summed_in(parts))
    sums = wide.new_zeros(*planes, count + 1).scatter_add(-1, at, wide)
    return sums[..., :count].reshape(like.shape).to(like.dtype)


def sums_of(
    x: Image, positions: Int[Tensor, "*pooled k"], n: int
) -> Float[Tensor, "*batch_and_pooled"]:
    """Add up the elements of each window, in float32 at least.

    Example:
        >>> sums_of(torch.tensor([[5.0, 6.0, 7.0]]), torch.tensor([[3, 0], [1, 2]]), 1)
        tensor([[ 5., 13.]])
    """
    return picked(x, positions, n, 0.0).sum(-1, dtype=summed_in(x))


def spread(
    share: Float[Tensor, "*batch_and_pooled"], positions: Int[Tensor, "*pooled k"], like: Image,
    n: int,
) -> Image:  # fmt: skip
    """Give every element of a window the same share of it: the transpose of `sums_of`.

    Example:
        >>> spread(torch.tensor([[1.0, 2.0]]), torch.tensor([[3, 0], [0, 2]]), torch.zeros(1, 3), 1)
        tensor([[3., 0., 2.]])
    """
    parts = share.unsqueeze(-1).expand(*share.shape, positions.shape[-1])
    return added_up(parts, positions, like, n)


def sizes_in(x: Image, positions: Int[Tensor, "*pooled k"], n: int) -> Int[Tensor, "*pooled"]:
    """Count n_o, the elements of each window that are in x.

    Example:
        >>> sizes_in(torch.zeros(1, 3), torch.tensor([[3, 0], [1, 2]]), 1)
        tensor([1, 2])
    """
    return (positions < prod(x.shape[-n:])).sum(-1)


def summed_in(x: Tensor) -> torch.dtype:
    """Choose the dtype that sums of x are computed in: float32 at least.

    Example:
        >>> summed_in(torch.zeros(1, dtype=torch.bfloat16))
        torch.float32
    """
    return torch.promote_types(x.dtype, torch.float32)
