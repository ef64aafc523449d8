"""The backward pass of a convolution behind which there is max-pooling, by a C++ kernel."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.sparse_convolution.op import convolution_backward
from lincoln_fn.compiler.passes import pooling

aten = torch.ops.aten

# Of smaller windows, too few terms are left out to make up for the scattered ones.
_WINDOW: Final = 4
# Stride, dilation, whether transposed, output's padding and groups.
_PLAIN: Final = [[1, 1], [1, 1], False, [0, 0], 1]


def rewrite(graph: GraphModule) -> None:
    """Replace the backward pass of each convolution that is max-pooled."""
    backward = aten.convolution_backward.default
    for node in graph.graph.find_nodes(op="call_function", target=backward):
        pooled: Any = _seen_through(node.args[0])  # Any: torch's type for an argument is a union
        if pooled.target is pooling.pool_backward and _supports(node, pooled):
            g, places, window = pooled.args
            x, weight, padding, needed = (node.args[i] for i in (1, 2, 5, -1))
            node.target = convolution_backward
            node.args = (g, places, x, weight, tuple(padding), window, tuple(needed[:2]))
    graph.recompile()


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
    """Tell whether the kernels support a convolution, on this processor too."""
    stride, _, *others = form
    is_known = x.dtype is torch.float32 and x.device.type == "cpu"
    return [stride, *others] == _PLAIN and is_known and lanes() > 0
