"""Numbers that a compiled step computes once, such as Adam's 1 - b2^t.

Inductor writes the computation of a number into every loop that uses it, and C++ may not move a
power out of a loop. So AdamW's update would compute two powers for each vector, which takes a fifth
of a small network's step.
"""

from __future__ import annotations

from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.passes.rewriting import materialize


def rewrite(graph: GraphModule) -> None:
    """Have Inductor compute each number before the loops that use it."""
    for node in [*graph.graph.nodes]:
        users = [user for user in node.users if not _is_number(user)]
        if users and _is_number(node) and node.all_input_nodes:
            with graph.graph.inserting_after(node):
                number = graph.graph.call_function(materialize, (node,))
                number.meta = dict(node.meta)
            for user in users:
                user.replace_input_with(node, number)
    graph.recompile()


def _is_number(node: Node) -> bool:
    value = node.meta.get("val")
    return isinstance(value, Tensor) and value.ndim == 0 and value.is_floating_point()
