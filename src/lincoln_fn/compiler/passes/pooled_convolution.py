"""A convolution and the max-pooling after it, forward and backward, by C++ kernels."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.cpp_kernel import are_called_for
from lincoln_fn.compiler.kernels.pooled_convolution.op import backward, forward
from lincoln_fn.compiler.passes import pooling

aten = torch.ops.aten

# With filters of up to so many numbers, forward takes less time than oneDNN's kernel and a pooling.
_MOST: Final = 512
# In smaller windows, the backward pass leaves out too few terms to make up for scattered reads.
_WINDOW: Final = 4
# Stride, dilation, whether transposed, output's padding and groups.
_PLAIN: Final = [[1, 1], [1, 1], False, [0, 0], 1]


def rewrite(graph: GraphModule) -> None:
    """Replace each max-pooled convolution, where the kernels support it, and its backward pass."""
    for node in graph.graph.find_nodes(op="call_function", target=pooling.pool):
        made = _find_unpermuted(node.args[0])
        if made is None or made.target is not aten.convolution.default:
            continue
        x, weight, bias, _, padding, *_ = made.args
        filters = weight.meta["val"]
        is_light = filters[0].numel() <= _MOST
        if _is_plain(x, made.args[3:9]) and is_light and len(filters) % lanes() == 0:
            node.target = forward
            node.args = (x, weight, bias, tuple(padding), node.args[1])
    target = aten.convolution_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=target):
        pooled = _find_unpermuted(node.args[0])
        if pooled is None or pooled.target is not pooling.pool_backward:
            continue
        g, places, window = pooled.args
        x, weight, padding, needed = (node.args[i] for i in (1, 2, 5, -1))
        if _is_plain(x, node.args[4:10]) and math.prod(window) >= _WINDOW:
            node.target = backward
            node.args = (g, places, x, weight, tuple(padding), window, tuple(needed[:2]))
    graph.recompile()


def _find_unpermuted(node: Any) -> Any:  # Any: what a graph's argument may be
    """Find the source of a node that is only permuted, there and back, if nothing else reads it."""
    source = node
    while source.target is aten.permute.default and len(source.users) == 1:
        source = source.args[0]
    readers = [user for user in source.users if user.target is not aten.new_zeros.default]
    is_same = source.meta["val"].stride() == node.meta["val"].stride()
    return source if is_same and len(readers) == 1 else None


def _is_plain(x: Node, form: Sequence[Any]) -> bool:  # Any: lists, a flag and a number
    """Return whether the kernels support a convolution of some form, on this processor, too."""
    stride, _, *others = form
    return [stride, *others] == _PLAIN and are_called_for(x.meta["val"])
