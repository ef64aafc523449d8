"""Which leaves of a state are slices of whole tensors, in `fully_sharded` and `optim.sharded`."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any, TypeAlias

import optree
from torch import Tensor

from lincoln_fn.core import EVERYTHING, tree
from lincoln_fn.distributed.sharding.sharded_params import Sharded
from lincoln_fn.optim import ShardedState
from lincoln_fn.optim.internal import spans

# The sizes of the whole tensors that are divided together, and which of them a slice belongs to.
Origin: TypeAlias = tuple[tuple[int, ...], int]


def origins(state: Any) -> dict[str, Origin]:  # Any: a tree
    """Find where each slice in a state comes from, by its path."""
    paths, nodes, _ = optree.tree_flatten_with_path(
        state, is_leaf=lambda node: isinstance(node, Sharded | ShardedState), namespace=EVERYTHING
    )
    found = {}
    for entries, node in zip(paths, nodes, strict=True):
        for inner, origin in _list_within(node):
            found[".".join([*map(str, entries), inner])] = origin
    return found


def _list_within(node: object) -> Iterator[tuple[str, Origin]]:
    if isinstance(node, Sharded):
        sizes = tuple(math.prod(shape) for shape, _ in node.forms)
        for i, path in enumerate(tree.paths(node.slices)):
            yield f"slices.{path}" if path else "slices", (sizes, i)
    if isinstance(node, ShardedState):
        leaves = tree.leaves(node.inner, states=True)
        for path, leaf in zip(tree.paths(node.inner, states=True), leaves, strict=True):
            if leaf.ndim == 1:  # the others are counts
                fitting = (
                    name for name in node.names if f".{path}".endswith(f".{name}" if name else "")
                )
                yield f"inner.{path}", (node.sizes, node.names.index(max(fitting, key=len)))


def span_of(origin: Origin, rank: int, size: int) -> tuple[int, int]:
    """Return which numbers of its whole tensor a process's slice has."""
    sizes, i = origin
    return spans(sizes, rank, size)[i]


def leaves_by_path(state: Any) -> dict[str, Tensor]:  # Any: a tree
    """List all leaves of a tree by path, those of states too."""
    return dict(zip(tree.paths(state, states=True), tree.leaves(state, states=True), strict=True))
