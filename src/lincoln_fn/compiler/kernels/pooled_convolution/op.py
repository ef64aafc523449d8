"""A convolution and the max-pooling behind it, in a compiled step, as one loop.

    y = max over a window's places of (b + sum of W x over each place's patch)

A window's sums stay in registers until the largest is known, so that what the convolution makes, a
window's size larger than y, is neither written nor read. That pays where few numbers of x meet a
filter, and the writing takes as long as the sums. The loop is in pooled_convolution.cpp. The
backward pass is sparse_convolution.py's.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.cpp_kernel import cpp_kernel
from lincoln_fn.compiler.kernels.sparse_convolution.op import Size, sizes_of


def pooled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Size, window: Size
) -> tuple[Tensor, Tensor]:
    """Compute what `pooling.pool` returns of a convolution's output."""
    filters, tile = len(weight), _tile(len(weight))
    tiles = weight.permute(0, 2, 3, 1).reshape(filters // tile, tile, -1).mT
    bias = x.new_zeros(filters) if bias is None else bias
    given = (t.contiguous() for t in (x.permute(0, 2, 3, 1), tiles, bias))
    y, places = _forward(*given, weight.shape[2:], padding, window)
    return y.permute(0, 3, 1, 2), places


def _tile(filters: int) -> int:
    return lanes() * math.gcd(2, filters // lanes())


def _like(
    x: Tensor, tiles: Tensor, bias: Tensor, size: Sequence[int], padding: Sequence[int],
    window: Sequence[int],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Make y and places, x and they with channels last, and filters of some size by tiles."""
    of_axes = zip(x.shape[1:3], size, padding, window, strict=True)
    plane = [(length + 2 * pad - k + 1) // side for length, k, pad, side in of_axes]
    y = x.new_empty(len(x), *plane, len(bias))
    return y, torch.empty_like(y, dtype=torch.int8)


def _sizes(
    x: Tensor, tiles: Tensor, bias: Tensor, size: Sequence[int], padding: Sequence[int],
    window: Sequence[int],
) -> dict[str, int]:  # fmt: skip
    return {"filters": len(bias), **sizes_of(x, size, padding, window)}


_forward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "pooled_convolution(Tensor x, Tensor tiles, Tensor bias, int[2] size, int[2] padding, "
    "int[2] window) -> (Tensor, Tensor)",
    __file__,
    _like,
    _sizes,
)
