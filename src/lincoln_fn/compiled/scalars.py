"""Numbers that a compiled step computes once, such as Adam's 1 - b2^t.

Inductor writes what a number is made of into every loop that uses it, and C++ may not move a power
out of a loop: AdamW's update would compute two for each vector, and take three times as long.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

aten = torch.ops.aten


def rewrite(graph: GraphModule) -> None:
    """Have each number that larger tensors are made with written to memory before.

    Args:
        graph: a traced step, which is changed.
    """
    for node in [*graph.graph.nodes]:
        users = [user for user in node.users if not _is_number(user)]
        if users and node.op == "call_function" and _is_number(node) and _is_made(node):
            with graph.graph.inserting_after(node):
                written = graph.graph.call_function(aten.as_strided.default, (node, [], []))
                written.meta = dict(node.meta)
            for user in users:
                user.replace_input_with(node, written)
    graph.recompile()


def _is_number(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()


def _is_made(node: Node) -> bool:
    """Tell whether a number is computed, and not cut out of a tensor, whose beginning it is not."""
    return bool(node.all_input_nodes) and node.meta["val"].storage_offset() == 0
