"""What passes ask of the nodes in a traced graph."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from operator import getitem
from typing import Any, Final

import torch
from torch.fx import Node

from lincoln_fn.compiler.trace.structures import strides

aten = torch.ops.aten

_VIEWS: Final = (aten.view.default, aten._unsafe_view.default, aten.expand.default)
_TURNS: Final = (aten.transpose.int, aten.t.default)


def kind_of(node: Any) -> object:  # Any: what a graph's argument may be
    """Give shape, strides, dtype and device of a node's tensor, to be compared."""
    made = node.meta["val"]
    return made.shape, strides(made), made.dtype, made.device


def is_same(a: Any, b: Any) -> bool:  # Any: what a graph's argument may be
    """Tell whether two nodes, or arguments of nodes, have the same numbers."""
    if a is b or not isinstance(a, Node) or not isinstance(b, Node):
        return bool(a == b)
    parts = zip(a.args, b.args, strict=False)
    is_alike = a.op == b.op == "call_function" and a.target is b.target and a.kwargs == b.kwargs
    return is_alike and len(a.args) == len(b.args) and all(is_same(*pair) for pair in parts)


def readers_of(node: Node, turned: bool = False) -> Iterator[tuple[Node, Node, bool]]:
    """Give each reader of a node's matrices, its argument, and whether that is their transpose."""
    for user in node.users:
        if _is_view(user):
            yield from readers_of(user, turned ^ (user.target in _TURNS))
        else:
            yield user, node, turned


def source_of(node: Any) -> tuple[Any, bool]:  # Any: what a graph's argument may be
    """Give the node whose matrices a node shows, and whether as transposes."""
    turned = False
    while _is_view(node):
        turned ^= node.target in _TURNS
        node = node.args[0]
    return node, turned


def shows(node: Any, others: Sequence[Node]) -> bool:  # Any: as above
    """Tell whether a node is a view of one of some others, or one of them."""
    return base_of(node) in others


def base_of(node: Any) -> Any:  # Any: as above
    """Find whose numbers a node shows, whole or in part."""
    # One of several views, such as those of `split`, is taken out of their list.
    listed = node.args[0] if node.target is getitem else node
    while getattr(listed.target, "is_view", False):
        node = listed.args[0]
        listed = node.args[0] if node.target is getitem else node
    return node


def has_same_matrices(a: Any, b: Any, turned: bool = False) -> bool:  # Any: as above
    """Tell whether two nodes show the same matrices."""
    (source, is_turned), (other, other_is_turned) = source_of(a), source_of(b)
    return is_same(source, other) and is_turned ^ other_is_turned == turned


def _is_view(node: Node) -> bool:
    """Tell whether a node shows the same matrices as its argument, or each of them turned."""
    if node.target not in (*_VIEWS, *_TURNS):
        return False
    of: Any = node.args[0]  # Any: torch's type for an argument is a union
    before, after = of.meta["val"], node.meta["val"]
    if node.target is aten.t.default:
        return bool(before.ndim == 2)
    if node.target is aten.transpose.int:
        axes: Any = node.args[1:]  # Any: as above
        return {axis % before.ndim for axis in axes} == {before.ndim - 2, before.ndim - 1}
    return bool(before.shape[-2:] == after.shape[-2:] and before.numel() == after.numel())
