"""What rewrites ask of the nodes in a traced step."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Final

import torch
from torch.fx import Node

aten = torch.ops.aten

_VIEWS: Final = (aten.view.default, aten._unsafe_view.default, aten.expand.default)
_TURNS: Final = (aten.transpose.int, aten.t.default)


def kind_of(node: Any) -> object:  # Any: what a graph's argument may be
    """Tell what a node's tensor is like.

    Args:
        node: whose value is a tensor.

    Returns:
        Shape, strides, dtype and device, to be compared.
    """
    made = node.meta["val"]
    return made.shape, made.stride(), made.dtype, made.device


def is_same(a: Any, b: Any) -> bool:  # Any: what a graph's argument may be
    """Tell whether two nodes, or arguments of nodes, have the same numbers.

    Args:
        a: the one.
        b: the other.

    Returns:
        True if the same functions make them of the same arguments.
    """
    if a is b or not isinstance(a, Node) or not isinstance(b, Node):
        return bool(a == b)
    parts = zip(a.args, b.args, strict=False)
    is_alike = a.op == b.op == "call_function" and a.target is b.target and a.kwargs == b.kwargs
    return is_alike and len(a.args) == len(b.args) and all(is_same(*pair) for pair in parts)


def readers_of(node: Node, turned: bool = False) -> Iterator[tuple[Node, Node, bool]]:
    """Find what reads a node's matrices, behind views of them.

    Args:
        node: whose value has matrices on its last two axes.
        turned: whether it shows them turned already.

    Returns:
        For each reader: itself, its argument, and whether that shows the matrices turned.
    """
    for user in node.users:
        if _is_view(user):
            yield from readers_of(user, turned ^ (user.target in _TURNS))
        else:
            yield user, node, turned


def source_of(node: Any) -> tuple[Any, bool]:  # Any: what a graph's argument may be
    """Find whose matrices a node shows.

    Args:
        node: whose value has matrices on its last two axes.

    Returns:
        The node that it is a view of, or itself, and whether it shows the matrices turned.
    """
    turned = False
    while _is_view(node):
        turned ^= node.target in _TURNS
        node = node.args[0]
    return node, turned


def shows(node: Any, others: Sequence[Node]) -> bool:  # Any: as above
    """Tell whether a node is a view of one of some others, or one of them.

    Args:
        node: whose value is a tensor.
        others: such nodes.

    Returns:
        True if it shows numbers of another, whole or in part.
    """
    while getattr(node.target, "is_view", False):
        node = node.args[0]
    return node in others


def rounded_from(node: Any) -> Node | None:  # Any: as above
    """Find what a node shows rounded to bfloat16.

    Args:
        node: whose value has matrices on its last two axes.

    Returns:
        The node of the same matrices in float32; None if there is none, or it shows them turned.
    """
    source, turned = source_of(node)
    if turned or source.target is not aten._to_copy.default:
        return None
    before: Node = source.args[0]
    dtypes = before.meta["val"].dtype, source.meta["val"].dtype
    return before if dtypes == (torch.float32, torch.bfloat16) else None


def has_same_matrices(a: Any, b: Any, turned: bool = False) -> bool:  # Any: as above
    """Tell whether two nodes show the same matrices.

    Args:
        a: the one.
        b: the other.
        turned: whether one is to show them turned.

    Returns:
        True if they are views of the same.
    """
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
