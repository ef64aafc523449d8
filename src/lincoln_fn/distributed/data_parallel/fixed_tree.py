"""Sums in a fixed tree: the same bits, wherever the numbers are.

n numbers are added in pairs, then the pairs in pairs, and so on:

    level 0    0   1   2   3   4
    level 1     0 1     2 3    4
    level 2        0 1 2 3     4
    level 3          0 1 2 3 4

Node i of level l is the sum of the numbers from i 2^l up to (i + 1) 2^l. A process that has the
numbers of a node computes it, and sends that one number in their place. The additions are the same
ones, so the bits do not depend on how the numbers are divided among processes.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TypeAlias

from torch import Tensor

# (level, i)
Node: TypeAlias = tuple[int, int]


def find_nodes(start: int, stop: int, total: int) -> list[Node]:
    """List the highest nodes of the tree that the numbers from start to before stop make up."""

    def descend(level: int, i: int) -> list[Node]:
        first, last = i << level, min((i + 1) << level, total)
        if last <= start or first >= stop:
            return []
        if start <= first and last <= stop:
            return [(level, i)]
        return descend(level - 1, 2 * i) + descend(level - 1, 2 * i + 1)

    return descend(_height(total), 0)


def add_node(known: dict[Node, Tensor], node: Node, value: Tensor, total: int) -> None:
    """Add a node to `known`, in place, and each sum that becomes known by it."""
    level, i = node
    while level < _height(total):
        if (i ^ 1) << level < total:
            sibling = known.pop((level, i ^ 1), None)
            if sibling is None:
                break
            value = value + sibling if i % 2 == 0 else sibling + value
        level, i = level + 1, i >> 1
    known[level, i] = value


def sum_rows(rows: Tensor) -> Tensor:
    """Add up the rows of a matrix."""
    return root_of({(0, i): row for i, row in enumerate(rows)}, len(rows))


def root_of(known: Mapping[Node, Tensor], total: int) -> Tensor:
    """Add up the nodes that make up the whole tree."""
    return _value(known, (_height(total), 0), total)


def _height(total: int) -> int:
    """Return the root's level."""
    return (total - 1).bit_length()


def _value(known: Mapping[Node, Tensor], node: Node, total: int) -> Tensor:
    if node in known:
        return known[node]
    level, i = node
    left = _value(known, (level - 1, 2 * i), total)
    if (2 * i + 1) << (level - 1) >= total:
        return left
    return left + _value(known, (level - 1, 2 * i + 1), total)
