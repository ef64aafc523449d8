"""A convolution and the max-pooling after it, in a compiled step, forward and backward.

    y = max over a window's places of (b + sum of W x over each place's patch)

Forward, a window's sums stay in registers until the largest is known. So the convolution's output,
which is larger than y by the size of a window, is neither written nor read. That is faster for
small filters, whose sums take no longer than the writing.

Backward, max-pooling gives the g of each window to one place, and zeros to the others (pooling.py).
Let (i, j) be the place that window (I, J) chose for filter o, and x[i : i + kh, j : j + kw] the
patch that the filter saw there. Then

    dW_o              = sum over examples, I and J of g_o x[i : i + kh, j : j + kw]
    dx[i : i + kh, j : j + kw] = sum over o, I and J of g_o W_o, wherever patches overlap
    db_o              = sum over examples, I and J of g_o

These are sums over windows, and not over all places. For windows of 2 by 2 they have a quarter of
the terms. Terms with g = 0 are left out, too: an eighth is left if a ReLU has set half of the gs
to 0. The kernel takes as little as a third of the time of oneDNN's, which multiply by every zero.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.inductor.settings import lanes, threads_for
from lincoln_fn.compiler.kernels.cpp_kernel import Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.passes import pooling
from lincoln_fn.compiler.passes.rewriting import by_rules
from lincoln_fn.fastpath import Argument

aten = torch.ops.aten

Size: TypeAlias = tuple[int, int]

# With filters of up to so many numbers, forward takes less time than oneDNN's kernel and a pooling.
_MOST: Final = 512
# In smaller windows, the backward pass leaves out too few terms to make up for scattered reads.
_WINDOW: Final = 4
# Stride, dilation, whether transposed, output's padding and groups.
_PLAIN: Final = [[1, 1], [1, 1], False, [0, 0], 1]


def forward(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Size, window: Size
) -> tuple[Tensor, Tensor]:
    """Compute what `pooling.pool` returns of a convolution's output."""
    filters = len(weight)
    tile = lanes() * math.gcd(2, filters // lanes())
    tiles = weight.permute(0, 2, 3, 1).reshape(filters // tile, tile, -1).mT
    bias = x.new_zeros(filters) if bias is None else bias
    arguments = (t.contiguous() for t in (x.permute(0, 2, 3, 1), tiles, bias))
    y, places = _forward(*arguments, weight.shape[2:], padding, window)
    return y.permute(0, 3, 1, 2), places


def backward(
    g: Tensor, places: Tensor, x: Tensor, weight: Tensor, padding: Size, window: Size,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """Compute dx, dW and db of a convolution whose output is pooled."""
    rows, x_rows, w_rows = (t.permute(0, 2, 3, 1).contiguous() for t in (g, x, weight))
    dx, dw = _backward(rows, places.contiguous(), x_rows, w_rows, padding, window, needed)
    return dx.permute(0, 3, 1, 2), dw.permute(0, 3, 1, 2), g.sum((0, 2, 3))


# All tensors have channels last: y is (batch, rows, columns, filters) and so on.
def _plan(
    x: Tensor, tiles: Tensor, bias: Tensor, size: Sequence[int], padding: Sequence[int],
    window: Sequence[int],
) -> Plan:  # fmt: skip
    of_axes = zip(x.shape[1:3], size, padding, window, strict=True)
    plane = [(length + 2 * pad - k + 1) // side for length, k, pad, side in of_axes]
    y = x.new_empty(len(x), *plane, len(bias))
    sizes = _sizes(x, len(bias), size, padding, window)
    return (y, torch.empty_like(y, dtype=torch.int8)), sizes


def _plan_backward(
    g: Tensor, places: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int],
    window: Sequence[int], needed: Sequence[bool],
) -> Plan:  # fmt: skip
    gradients = tuple(
        torch.empty_like(t) if is_needed else t.new_empty((0,) * 4)
        for t, is_needed in zip((x, weight), needed, strict=True)
    )
    sizes = _sizes(x, len(weight), weight.shape[1:3], padding, window)
    return gradients, {**sizes, "needed_dx": needed[0], "needed_dw": needed[1]}


def _sizes(x: Tensor, filters: int, *of_axes: Sequence[int]) -> dict[str, int]:
    (batch, height, width, channels), (kernel, padding, window) = x.shape, of_axes
    return {
        "batch": batch, "height": height, "width": width, "channels": channels, "filters": filters,
        "kernel_h": kernel[0], "kernel_w": kernel[1],
        "padding_h": padding[0], "padding_w": padding[1],
        "window_h": window[0], "window_w": window[1], "threads": threads_for(batch),
    }  # fmt: skip


_forward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "pooled_convolution(Tensor x, Tensor tiles, Tensor bias, int[2] size, int[2] padding, "
    "int[2] window) -> (Tensor, Tensor)",
    _plan,
)
_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = cpp_kernel(
    "pooled_convolution_backward(Tensor g, Tensor places, Tensor x, Tensor weight, "
    "int[2] padding, int[2] window, bool[2] needed) -> (Tensor, Tensor)",
    _plan_backward,
)


def _replace_forward(node: Node) -> None:
    convolution = _find_unpermuted(node.args[0])
    if convolution is None or convolution.target is not aten.convolution.default:
        return
    x, weight, bias, _, padding, *_ = convolution.args
    filters = weight.meta["val"]
    is_light = filters[0].numel() <= _MOST
    if _is_plain(x, convolution.args[3:9]) and is_light and len(filters) % lanes() == 0:
        node.target = forward
        node.args = (x, weight, bias, tuple(padding), node.args[1])


def _replace_backward(node: Node) -> None:
    pooled = _find_unpermuted(node.args[0])
    if pooled is None or pooled.target is not pooling.pool_backward:
        return
    g, places, window = pooled.args
    arguments: tuple[Argument, ...] = node.args
    x, weight, padding, needed = (arguments[i] for i in (1, 2, 5, -1))
    if _is_plain(x, arguments[4:10]) and math.prod(window) >= _WINDOW:
        node.target = backward
        node.args = (g, places, x, weight, tuple(padding), window, tuple(needed[:2]))


def _find_unpermuted(node: Argument) -> Argument:
    """Find the source of a node that is only permuted, there and back, if nothing else reads it."""
    source = node
    while source.target is aten.permute.default and len(source.users) == 1:
        source = source.args[0]
    readers = [user for user in source.users if user.target is not aten.new_zeros.default]
    is_same = source.meta["val"].stride() == node.meta["val"].stride()
    return source if is_same and len(readers) == 1 else None


def _is_plain(x: Argument, form: Sequence[Argument]) -> bool:
    """Return whether the kernels support a convolution of some form, on this processor, too."""
    stride, _, *others = form
    return [stride, *others] == _PLAIN and are_called_for(x.meta["val"])


rewrite: Final = by_rules(
    {pooling.pool: _replace_forward, aten.convolution_backward.default: _replace_backward}
)
