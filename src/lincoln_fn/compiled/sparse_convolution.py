"""A convolution's backward pass behind a max-pooling, in a compiled step.

Derivation. Of each window, max-pooling hands its g to one place and zeros to the others
(pooling.py). With (i, j) the place that window (I, J) chose for filter o, and x at (i, j) the patch
that the filter saw there,

    dW_o              = sum over examples, I and J of g_o x[i : i + kh, j : j + kw]
    dx[i : i + kh, j : j + kw] = sum over o, I and J of g_o W_o, wherever patches overlap
    db_o              = sum over examples, I and J of g_o

which are sums over windows and not over all places: of windows of 2 by 2 a quarter of the terms,
and an eighth where a ReLU has set half of the gs to 0, whose terms are left out too. Compared with
oneDNN's kernels, which multiply by each zero, that takes down to a third of the time; for an x of
one channel as long, but the zeros need not be written. The loop is in
sparse_convolution_backward.cpp.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled import pooling
from lincoln_fn.compiled.loops import lanes, loop, threads_for

aten = torch.ops.aten

Size: TypeAlias = tuple[int, int]

# Of smaller windows, too few terms are left out to make up for the scattered ones.
_WINDOW: Final = 4
# Stride, dilation, whether transposed, output's padding and groups.
_PLAIN: Final = [[1, 1], [1, 1], False, [0, 0], 1]


def rewrite(graph: GraphModule) -> None:
    """Put the sparse backward pass in the place of convolutions' own, where pooling is behind them.

    Args:
        graph: a traced step after `pooling.rewrite`, which is changed.
    """
    backward = aten.convolution_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=backward):
        pooled: Any = _seen_through(node.args[0])  # Any: torch's type for an argument is a union
        if pooled.target is pooling.pool_backward and _supports(node, pooled):
            g, places, window = pooled.args
            x, weight, padding, needed = (node.args[i] for i in (1, 2, 5, -1))
            node.target = convolution_backward
            node.args = (g, places, x, weight, tuple(padding), window, tuple(needed[:2]))
    graph.recompile()


def convolution_backward(
    g: Tensor,
    places: Tensor,
    x: Tensor,
    weight: Tensor,
    padding: Size,
    window: Size,
    needed: tuple[bool, bool],
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute dx, dW and db of a convolution whose output is pooled.

    Args:
        g: dL/dy of the pooling's y, of shape (batch, filters, rows, columns).
        places: what `pooling.pool` returned.
        x: of shape (batch, channels, height, width).
        weight: of shape (filters, channels, kernel height, kernel width).
        padding: of x, on both sides of each axis.
        window: of the pooling.
        needed: whether dx and dW are; what is not is empty.

    Returns:
        dx and dW, channels last in memory, and db.
    """
    rows, x_rows, w_rows = (t.permute(0, 2, 3, 1).contiguous() for t in (g, x, weight))
    dx, dw = _backward(rows, places, x_rows, w_rows, padding, window, needed)
    return dx.permute(0, 3, 1, 2), dw.permute(0, 3, 1, 2), g.sum((0, 2, 3))


def _like(
    g: Tensor, places: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int],
    window: Sequence[int], needed: Sequence[bool],
) -> tuple[Tensor, Tensor]:  # fmt: skip
    """Make dx and dW, all with channels last: g (batch, rows, columns, filters) and so on."""
    dx, dw = (
        torch.empty_like(t) if is_needed else t.new_empty((0,) * 4)
        for t, is_needed in zip((x, weight), needed, strict=True)
    )
    return dx, dw


def _sizes(
    g: Tensor, places: Tensor, x: Tensor, weight: Tensor, padding: Sequence[int],
    window: Sequence[int], needed: Sequence[bool],
) -> dict[str, int]:  # fmt: skip
    filters, *size, _ = weight.shape
    of_weight = {"filters": filters, "needed_dx": needed[0], "needed_dw": needed[1]}
    return {**of_weight, **sizes_of(x, size, padding, window)}


def sizes_of(
    x: Tensor, size: Sequence[int], padding: Sequence[int], window: Sequence[int]
) -> dict[str, int]:
    """Give what both loops of a pooled convolution take for granted.

    Args:
        x: with channels last.
        size: of the kernel.
        padding: of x, on both sides of each axis.
        window: of the pooling.

    Returns:
        The constants.
    """
    batch, height, width, channels = x.shape
    return {
        "batch": batch, "height": height, "width": width, "channels": channels,
        "kernel_h": size[0], "kernel_w": size[1],
        "padding_h": padding[0], "padding_w": padding[1],
        "window_h": window[0], "window_w": window[1], "threads": threads_for(batch),
    }  # fmt: skip


_backward: Final[Callable[..., tuple[Tensor, Tensor]]] = loop(
    "sparse_convolution_backward(Tensor g, Tensor places, Tensor x, Tensor weight, "
    "int[2] padding, int[2] window, bool[2] needed) -> (Tensor, Tensor)",
    _like,
    _sizes,
)


def _seen_through(node: Any) -> Any:  # Any: what a graph's argument may be
    """Find what a tensor is that has only been permuted, there and back."""
    source = node
    while source.target is aten.permute.default:
        source = source.args[0]
    same = source.meta["val"].stride() == node.meta["val"].stride()
    return source if same and len(source.users) == 1 else node


def _supports(node: Node, pooled: Node) -> bool:
    """Tell whether a convolution is a plain one, and windows are large."""
    x: Any = node.args[1]  # Any: torch's type for an argument is a union
    window: Any = pooled.args[2]  # Any: as above
    return is_plain(x.meta["val"], node.args[4:10]) and math.prod(window) >= _WINDOW


def is_plain(x: Tensor, form: Sequence[Any]) -> bool:  # Any: lists, a flag and a number
    """Tell whether the loops know a convolution, and there are vectors for them.

    Args:
        x: what it takes.
        form: stride, padding, dilation, whether transposed, output's padding and groups.

    Returns:
        True for float32 on the CPU, without strides, dilation and groups.
    """
    stride, _, *others = form
    is_known = x.dtype is torch.float32 and x.device.type == "cpu"
    return [stride, *others] == _PLAIN and is_known and lanes() > 0
