"""Convolutions and poolings, with the strides and the padding that the shapes allow."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.references.known import Candidates, Known, apply, choose

LARGEST_STRIDE = 4
LARGEST_PADDING = 4
# Of one kind of pooling, so many windows are tried.
MOST_WINDOWS = 400


# Any: numbers, or one for each axis.
def conv(x: Tensor, w: Tensor, b: Tensor | None = None, stride: Any = 1, pad: Any = 0) -> Tensor:
    """Correlate x with the kernels w, and add b."""
    return _run("conv", x, w, b, stride, pad)


def max_pool(x: Tensor, kernel: Any, stride: Any, pad: Any = 0) -> Tensor:
    """Take the largest number of each window."""
    return _run("max_pool", x, kernel, stride, pad)


def avg_pool(x: Tensor, kernel: Any, stride: Any, pad: Any = 0) -> Tensor:
    """Take the average of each window."""
    return _run("avg_pool", x, kernel, stride, pad)


def _run(name: str, x: Tensor, *options: Any) -> Tensor:
    y: Tensor = getattr(functional, f"{name}{x.ndim - 2}d")(x, *options)
    return y


def find_convolution(known: Known) -> Candidates:
    """List convolutions of arrays of these shapes."""
    (y,) = known.y
    if not 3 <= y.ndim <= 5:
        return
    with_bias = choose(known, y.ndim, y.ndim, 1)
    without = ((*places, None) for places in choose(known, y.ndim, y.ndim))
    for x, w, b in (*with_bias, *without):
        assert x is not None
        assert w is not None
        image, kernel = known.arrays[x].shape, known.arrays[w].shape
        if image[1] != kernel[1] or kernel[0] != y.shape[1]:
            continue
        sizes = zip(image[2:], kernel[2:], y.shape[2:], strict=True)
        for options in product(*(_list_options(*each) for each in sizes)):
            stride, pad = zip(*options, strict=True)
            yield apply(conv, x, w, b, stride=stride, pad=pad)


def _list_options(size: int, window: int, out: int) -> list[tuple[int, int]]:
    """List the strides and paddings that give so many windows."""
    return [
        (stride, pad)
        for pad in range(LARGEST_PADDING + 1)
        for stride in range(1, LARGEST_STRIDE + 1)
        if size + 2 * pad >= window and (size + 2 * pad - window) // stride + 1 == out
    ]


def find_pooling(known: Known) -> Candidates:
    """List poolings of one array."""
    (y,) = known.y
    if len(known.arrays) != 1 or not 3 <= y.ndim <= 5:
        return
    x = known.arrays[0].shape
    if len(x) != y.ndim or x[:2] != y.shape[:2] or x == y.shape:
        return
    for pool in (max_pool, avg_pool):
        windows = list(_list_windows(x[2:], y.shape[2:]))[:MOST_WINDOWS]
        for kernel, stride in windows:
            yield apply(pool, 0, kernel=kernel, stride=stride)


def _list_windows(
    sizes: torch.Size, outs: torch.Size
) -> Iterator[tuple[tuple[int, ...], tuple[int, ...]]]:
    each = [
        [
            (kernel, stride)
            for stride in range(1, size + 1)
            for kernel in range(1, size + 1)
            if (size - kernel) // stride + 1 == out and (out > 1 or stride == 1 or kernel == stride)
        ]
        for size, out in zip(sizes, outs, strict=True)
    ]
    for options in product(*each):
        kernel, stride = zip(*options, strict=True)
        yield kernel, stride
