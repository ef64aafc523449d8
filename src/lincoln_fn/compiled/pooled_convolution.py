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
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled import pooling
from lincoln_fn.compiled.loops import lanes, loop
from lincoln_fn.compiled.sparse_convolution import Size, is_plain, sizes_of

aten = torch.ops.aten

# Numbers in a filter up to which the loop takes less time than oneDNN's kernel and one for pooling.
_MOST: Final = 512


def rewrite(graph: GraphModule) -> None:
    """Put the loop in the place of convolutions that are only pooled, where it suits.

    Args:
        graph: a traced step after `pooling.rewrite`, which is changed.
    """
    for node in graph.graph.find_nodes(op="call_function", target=pooling.pool):
        made = _convolution(node.args[0])
        if made is not None and _supports(made):
            given: Any = made.args  # Any: torch's type for an argument is a union
            x, weight, bias, _, padding, *_ = given
            node.target = pooled_convolution
            node.args = (x, weight, bias, tuple(padding), node.args[1])
    graph.recompile()


def pooled_convolution(
    x: Tensor, weight: Tensor, bias: Tensor | None, padding: Size, window: Size
) -> tuple[Tensor, Tensor]:
    """Compute what `pooling.pool` returns of a convolution's output.

    Args:
        x: of shape (batch, channels, height, width).
        weight: of shape (filters, channels, kernel height, kernel width).
        bias: of shape (filters,), or None.
        padding: of x, on both sides of each axis.
        window: of the pooling.

    Returns:
        y, and the places, int8, with channels last.
    """
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


_forward: Final[Callable[..., tuple[Tensor, Tensor]]] = loop(
    "pooled_convolution(Tensor x, Tensor tiles, Tensor bias, int[2] size, int[2] padding, "
    "int[2] window) -> (Tensor, Tensor)",
    _like,
    _sizes,
)


def _convolution(pooled: Any) -> Node | None:  # Any: as above
    """Find the convolution whose output is pooled, if nothing else looks at its numbers."""
    node = pooled
    while node.target is aten.permute.default and len(node.users) == 1:
        node = node.args[0]
    is_alone = sum(user.target is not aten.new_zeros.default for user in node.users) == 1
    is_same = node.meta["val"].stride() == pooled.meta["val"].stride()
    is_found = node.target is aten.convolution.default and is_alone and is_same
    return node if is_found else None


def _supports(node: Node) -> bool:
    """Tell whether a convolution is a plain and light one, whose filters fill vectors."""
    given: Any = node.args[:2]  # Any: as above
    x, weight = (arg.meta["val"] for arg in given)
    is_light = weight[0].numel() <= _MOST
    return bool(is_light and is_plain(x, node.args[3:9]) and len(weight) % lanes() == 0)
