"""Max-pooling in a compiled step as loops, and a convolution and the pooling after it by kernels.

**Pooling**, where windows do not overlap and channels are last. With x cut into windows, element i
of every window is a slice x_i, and

    y = max_i x_i,    place = the first i with x_i = y,    dx_i = g where place = i, else 0.

Inductor makes each of them a loop over neighbouring channels. The forward loop also computes what
follows y, such as a ReLU. The backward loop writes dx once. ATen's kernels take two to four times
as long: they count places in int64, and fill dx with zeros first. They remain for other windows.

**A convolution and the pooling after it**, by kernels:

    y = max over a window's places of (b + sum of W x over each place's patch)

Forward, a window's sums stay in registers until the largest is known. So the convolution's output,
which is larger than y by the size of a window, is neither written nor read. That is faster for
small filters, whose sums take no longer than the writing.

Backward, max-pooling gives the g of each window to one place, and zeros to the others. Let (i, j)
be the place that window (I, J) chose for filter o, and x[i : i + kh, j : j + kw] the patch that the
filter saw there. Then

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
from operator import getitem
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.cpp_kernel import Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.inductor.settings import lanes, threads_for
from lincoln_fn.compiler.passes.rewriting import by_rules, materialize
from lincoln_fn.fastpath import Argument

aten = torch.ops.aten

Size: TypeAlias = tuple[int, int]

# With fewer channels, a vector would not be filled.
_CHANNELS: Final = 8
# With larger windows, the loop's code would be too long.
_LARGEST_WINDOW: Final = 16
# A window's kernel size, stride, padding and dilation, and ceil_mode.
_DEFAULTS: Final[tuple[Argument, ...]] = ([], [], [0, 0], [1, 1], False)
# With filters of up to so many numbers, forward takes less time than oneDNN's kernel and a pooling.
_LARGEST_FILTER: Final = 512
# In smaller windows, the backward pass leaves out too few terms to make up for scattered reads.
_LEAST_WINDOW: Final = 4
# Stride, dilation, whether transposed, output's padding and groups.
_PLAIN: Final = [[1, 1], [1, 1], False, [0, 0], 1]


def pool(x: Tensor, kernel: Size) -> tuple[Tensor, Tensor]:
    """Compute y, and the place of the largest element in each window, as int8."""
    (n, channels, height, width), (kh, kw) = x.shape, kernel
    windows = x.permute(0, 2, 3, 1).view(n, height // kh, kh, width // kw, kw, channels)
    parts = [windows[:, :, i, :, j] for i in range(kh) for j in range(kw)]
    y = parts[0]
    for part in parts[1:]:
        y = torch.maximum(y, part)
    # In int32, because there are vectors of int32.
    place = torch.full_like(y, len(parts) - 1, dtype=torch.int32)
    for i in range(len(parts) - 2, -1, -1):
        place = torch.where(parts[i] == y, i, place)
    return materialize(y).permute(0, 3, 1, 2), materialize(place.to(torch.int8))


def pool_backward(g: Tensor, places: Tensor, kernel: Size) -> Tensor:
    """Compute dx."""
    (kh, kw), (n, channels, height, width) = kernel, g.shape
    own = torch.arange(kh * kw, dtype=torch.int32, device=g.device).view(kh, 1, kw, 1)
    place = places.to(torch.int32)[:, :, None, :, None]
    g = materialize(g.permute(0, 2, 3, 1).contiguous())
    dx = torch.where(place == own, g[:, :, None, :, None], 0)
    return dx.reshape(n, height * kh, width * kw, channels).permute(0, 3, 1, 2)


def _supports(x: Argument, window: Sequence[Argument]) -> bool:
    """Return whether windows are adjacent, fill the plane, and have channels to loop over."""
    image = x.meta["val"]
    if image.ndim != 4 or image.shape[1] < _CHANNELS or image.dtype is not torch.float32:
        return False
    kernel, stride, *others = window
    side_by_side = (stride or kernel) == kernel and tuple(others) == _DEFAULTS[2:]
    is_short = math.prod(kernel) <= _LARGEST_WINDOW
    is_filled = all(size % k == 0 for size, k in zip(image.shape[2:], kernel, strict=True))
    is_last = image.is_contiguous(memory_format=torch.channels_last)
    return side_by_side and is_short and is_filled and is_last


def _is_backward(node: Node, window: Sequence[Argument]) -> bool:
    target = aten.max_pool2d_with_indices_backward.default
    return node.target is target and [*node.args[2:-1]] == window


def _replace(node: Node) -> None:
    arguments: tuple[Argument, ...] = node.args
    x, *window = arguments
    window += _DEFAULTS[len(window) :]
    places = [user for user in node.users if user.target is getitem and user.args[1] == 1]
    backward = [user for node in places for user in node.users]
    if _supports(x, window) and all(_is_backward(user, window) for user in backward):
        kernel = tuple(window[0])
        node.target, node.args = pool, (x, kernel)
        for user in backward:
            user.target, user.args = pool_backward, (user.args[0], user.args[-1], kernel)


rewrite: Final = by_rules({aten.max_pool2d_with_indices.default: _replace})


def convolve_and_pool(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Size, window: Size
) -> tuple[Tensor, Tensor]:
    """Compute what `pool` returns of a convolution's output."""
    filters = len(weight)
    tile = lanes() * math.gcd(2, filters // lanes())
    tiles = weight.permute(0, 2, 3, 1).reshape(filters // tile, tile, -1).mT
    bias = x.new_zeros(filters) if bias is None else bias
    arguments = (t.contiguous() for t in (x.permute(0, 2, 3, 1), tiles, bias))
    y, places = _forward(*arguments, weight.shape[2:], padding, window)
    return y.permute(0, 3, 1, 2), places


def convolve_and_pool_backward(
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
    is_light = filters[0].numel() <= _LARGEST_FILTER
    if _is_plain(x, convolution.args[3:9]) and is_light and len(filters) % lanes() == 0:
        node.target = convolve_and_pool
        node.args = (x, weight, bias, tuple(padding), node.args[1])


def _replace_backward(node: Node) -> None:
    pooled = _find_unpermuted(node.args[0])
    if pooled is None or pooled.target is not pool_backward:
        return
    g, places, window = pooled.args
    arguments: tuple[Argument, ...] = node.args
    x, weight, padding, needed = (arguments[i] for i in (1, 2, 5, -1))
    if _is_plain(x, arguments[4:10]) and math.prod(window) >= _LEAST_WINDOW:
        node.target = convolve_and_pool_backward
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


rewrite_convolutions: Final = by_rules(
    {pool: _replace_forward, aten.convolution_backward.default: _replace_backward}
)
