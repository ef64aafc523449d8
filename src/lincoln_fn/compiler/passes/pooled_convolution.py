"""A convolution that is only max-pooled, with the pooling, by a C++ kernel."""

from __future__ import annotations

from typing import Any, Final

import torch
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.pooled_convolution.op import pooled_convolution
from lincoln_fn.compiler.passes import pooling
from lincoln_fn.compiler.passes.sparse_convolution import is_plain

aten = torch.ops.aten

# Numbers in a filter up to which the kernel takes less time than oneDNN's and one for pooling.
_MOST: Final = 512


def rewrite(graph: GraphModule) -> None:
    """Replace each convolution that is only pooled, where the kernel supports it."""
    for node in graph.graph.find_nodes(op="call_function", target=pooling.pool):
        made = _convolution(node.args[0])
        if made is not None and _supports(made):
            given: Any = made.args  # Any: torch's type for an argument is a union
            x, weight, bias, _, padding, *_ = given
            node.target = pooled_convolution
            node.args = (x, weight, bias, tuple(padding), node.args[1])
    graph.recompile()


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
