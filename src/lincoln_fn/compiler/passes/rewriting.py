"""How passes find nodes of a traced graph, and replace them: by rules, one for each operation.

`to_torch` is such a pass. An operation that it leaves to torch's kernels, which are faster than
Inductor's code, gets a name of its own here, which Inductor does not know, and so does not compile.

Max pooling over planes then takes a quarter of the time, forward and backward. The gradient of an
embedding takes a third or less, and is added up in the same order every time, unlike by Inductor's
threads. Large products take less time by oneDNN: see fastpath/product.py.

The gradient of average pooling with ceil_mode is here because Inductor's is wrong: it divides by
whole windows even if the last is cut off. So is fractional pooling of volumes: Inductor swaps the
samples of the axes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from operator import getitem
from typing import Final, TypeAlias

import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from lincoln_fn.fastpath import Argument, Operation, operation
from lincoln_fn.recording import strides

aten = torch.ops.aten

Rewrite: TypeAlias = Callable[[GraphModule], None]


def by_rules(rules: dict[Operation, Callable[[Node], None]]) -> Rewrite:
    """Make the pass that gives each call of an operation to its rule, which may replace it."""

    def rewrite(graph: GraphModule) -> None:
        for target, rule in rules.items():
            for node in graph.graph.find_nodes(op="call_function", target=target):
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


# The position of ceil_mode in the arguments of average pooling's backward pass.
_CEIL_MODE: Final = 5
_AVG_POOL_BACKWARD: Final = (aten.avg_pool2d_backward.default, aten.avg_pool3d_backward.default)
_KEPT: Final = {
    kernel: operation(str(kernel._schema).removeprefix("aten::"), kernel)
    for kernel in (
        aten.max_pool2d_with_indices.default,
        aten.max_pool2d_with_indices_backward.default,
        aten.embedding_dense_backward.default,
        aten.fractional_max_pool3d.default,
        *_AVG_POOL_BACKWARD,
    )
}


def _mm(a: Tensor, b: Tensor) -> Tensor:
    y: Tensor = torch.ops.mkldnn._linear_pointwise(a, b.mT, None, "none", [], "")
    return y


mm_by_onednn: Final[Callable[[Tensor, Tensor], Tensor]] = operation(
    "mm_by_onednn(Tensor a, Tensor b) -> Tensor", _mm
)


def _replace(node: Node) -> None:
    kernel: Operation = node.target
    if kernel not in _AVG_POOL_BACKWARD or node.args[_CEIL_MODE]:
        node.target = _KEPT[kernel]


to_torch: Final = by_rules(dict.fromkeys(_KEPT, _replace))
