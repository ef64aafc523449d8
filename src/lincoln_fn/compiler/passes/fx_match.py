"""What passes look for in the nodes of a traced graph."""

from __future__ import annotations

from collections.abc import Iterator
from operator import getitem
from typing import Any

import torch
from torch.fx import Node

from lincoln_fn.recording import strides

aten = torch.ops.aten


def kind_of(node: Any) -> object:  # Any: what a graph's argument may be
    """Return shape, strides, dtype and device of a node's tensor, to be compared."""
    made = node.meta["val"]
    return made.shape, strides(made), made.dtype, made.device


def readers_of(matrix: Node, turned: bool = False) -> Iterator[tuple[Node, Node, bool]]:
    """Yield each reader of a matrix, its argument, and whether that is the transpose."""
    for user in matrix.users:
        if user.target is aten.t.default or _is_transpose(user):
            yield from readers_of(user, not turned)
        else:
            yield user, matrix, turned


def base_of(node: Any) -> Any:  # Any: as above
    """Find the node whose numbers a view shows."""
    # One of several views, such as those of `split`, is an entry of their list.
    listed = node.args[0] if node.target is getitem else node
    while getattr(listed.target, "is_view", False):
        node = listed.args[0]
        listed = node.args[0] if node.target is getitem else node
    return node


def _is_transpose(node: Node) -> bool:
    axes: Any = node.args[1:]  # Any: torch's type for an argument is a union
    return node.target is aten.transpose.int and {axis % 2 for axis in axes} == {0, 1}
