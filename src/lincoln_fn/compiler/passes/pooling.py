"""Max-pooling in a compiled step as loops, where windows do not overlap and channels are last.

With x cut into windows, element i of every window is a slice x_i, and

    y = max_i x_i,    place = the first i with x_i = y,    dx_i = g where place = i, else 0.

Inductor makes each of them a loop over neighbouring channels. The forward loop also computes what
follows y, such as a ReLU. The backward loop writes dx once. ATen's kernels take two to four times
as long: they count places in int64, and fill dx with zeros first. They remain for other windows.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from operator import getitem
from typing import Final

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.passes.rewriting import by_rules, materialize
from lincoln_fn.fastpath import Argument

aten = torch.ops.aten

# With fewer channels, a vector would not be filled.
_CHANNELS: Final = 8
# With larger windows, the loop's code would be too long.
_WINDOW: Final = 16
# A window's kernel size, stride, padding and dilation, and ceil_mode.
_DEFAULTS: Final[tuple[Argument, ...]] = ([], [], [0, 0], [1, 1], False)


def pool(x: Tensor, kernel: tuple[int, int]) -> tuple[Tensor, Tensor]:
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


def pool_backward(g: Tensor, places: Tensor, kernel: tuple[int, int]) -> Tensor:
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
    is_short = math.prod(kernel) <= _WINDOW
    is_filled = all(size % k == 0 for size, k in zip(image.shape[2:], kernel, strict=True))
    is_last = image.is_contiguous(memory_format=torch.channels_last)
    return side_by_side and is_short and is_filled and is_last


def _is_backward(node: Node, window: Sequence[Argument]) -> bool:
    target = aten.max_pool2d_with_indices_backward.default
    return node.target is target and [*node.args[2:-1]] == window


def _replace(node: Node) -> None:
    """Replace pooling by functions that Inductor compiles to loops, where they support it."""
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
