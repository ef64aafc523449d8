"""How passes find nodes of a traced graph, and replace them: by rules, one for each operation."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from lincoln_fn.fastpath import Argument, Operation
from lincoln_fn.recording import strides

aten = torch.ops.aten

Rewrite: TypeAlias = Callable[[GraphModule], None]


def by_rules(rules: dict[Operation, Callable[[Node], None]]) -> Rewrite:
    """Make the pass that gives each call of an operation to its rule, which may replace it."""

    def rewrite(graph: GraphModule) -> None:
        for operation, rule in rules.items():
            for node in graph.graph.find_nodes(op="call_function", target=operation):
                rule(node)
        graph.recompile()

    return rewrite


def materialize(x: Tensor) -> Tensor:
    """Have Inductor write a tensor to memory, because it is a view with explicit strides."""
    # Otherwise Inductor would compute it again at each use.
    return x if x.storage_offset() else x.as_strided(x.shape, x.stride())


def _reshape(node: Node) -> None:
    node.target = aten.reshape.default


# A view becomes a copy where its tensor has strides now that need one.
copy_views: Final = by_rules({aten.view.default: _reshape})


def write_numbers(graph: GraphModule) -> None:
    """Have Inductor compute each number, such as Adam's 1 - b2^t, before the loops that use it."""
    # It would write the computation into every loop, and C++ may not move a power out of a loop. So
    # AdamW's update would compute two powers for each vector, a fifth of a small network's step.
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


def tensors_of(node: Node) -> list[Tensor]:
    """List the traced tensors that a node takes."""
    return [argument.meta["val"] for argument in node.args if isinstance(argument, Node)]


def outputs_of(graph: Graph) -> list[Argument]:
    """List what a graph returns."""
    outputs: Argument = graph.output_node().args[0]
    return [*outputs]


def kind_of(node: Argument) -> object:
    """Return shape, strides, dtype and device of a node's tensor, to be compared."""
    tensor = node.meta["val"]
    return tensor.shape, strides(tensor), tensor.dtype, tensor.device


def readers_of(matrix: Node, turned: bool = False) -> Iterator[tuple[Node, Node, bool]]:
    """Yield each reader of a matrix, its argument, and whether that is the transpose."""
    for user in matrix.users:
        if user.target is aten.t.default or _is_transpose(user):
            yield from readers_of(user, not turned)
        else:
            yield user, matrix, turned


def base_of(node: Argument) -> Argument:
    """Find the node whose numbers a view shows."""
    # One of several views, such as those of `split`, is an entry of their list.
    listed = node.args[0] if node.target is getitem else node
    while getattr(listed.target, "is_view", False):
        node = listed.args[0]
        listed = node.args[0] if node.target is getitem else node
    return node


def _is_transpose(node: Node) -> bool:
    axes: tuple[Argument, ...] = node.args[1:]
    return node.target is aten.transpose.int and {axis % 2 for axis in axes} == {0, 1}
