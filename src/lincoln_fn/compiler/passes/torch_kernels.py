"""Torch's own kernels in place of Inductor's code, where they are faster or Inductor is wrong."""

from __future__ import annotations

from typing import Final

from torch.fx import GraphModule

from lincoln_fn.compiler.kernels.torch_ops import AVG_POOL_BACKWARD, KEPT

# The position of ceil_mode in the arguments of average pooling's backward pass.
_CEIL_MODE: Final = 5


def rewrite(graph: GraphModule) -> None:
    """Replace these operations by those that Inductor does not know, so that it calls them."""
    for kernel, own in KEPT.items():
        for node in graph.graph.find_nodes(op="call_function", target=kernel):
            if kernel not in AVG_POOL_BACKWARD or node.args[_CEIL_MODE]:
                node.target = own
    graph.recompile()
