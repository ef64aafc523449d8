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


def nodes_within(start: int, stop: int, total: int) -> list[Node]:
    """List the highest nodes of the tree over `total` numbers that some of the numbers make up.

    Args:
        start: the first of the numbers.
        stop: behind the last of them.
        total: how many numbers there are in all.

    Returns:
        The nodes from left to right.

    Example:
        >>> nodes_within(0, 4, 8), nodes_within(1, 5, 5)
        ([(2, 0)], [(0, 1), (1, 1), (2, 1)])
    """

    def within(level: int, i: int) -> list[Node]:
        first, last = i << level, min((i + 1) << level, total)
        if last <= start or first >= stop:
            return []
        if start <= first and last <= stop:
            return [(level, i)]
        return within(level - 1, 2 * i) + within(level - 1, 2 * i + 1)

    return within(_height(total), 0)


def add_node(known: dict[Node, Tensor], node: Node, value: Tensor, total: int) -> None:
    """Add a node to those known, and each sum that has become known by it.

    Args:
        known: the highest nodes known, which this changes.
        node: the new one.
        value: its sum.
        total: how many numbers there are in all.

    Example:
        >>> known = {(0, 0): torch.tensor(1.0)}
        >>> add_node(known, (0, 1), torch.tensor(2.0), 4)
        >>> known
        {(1, 0): tensor(3.)}
    """
    level, i = node
    while level < _height(total):
        if (i ^ 1) << level < total:
            sibling = known.pop((level, i ^ 1), None)
            if sibling is None:
                break
            value = value + sibling if i % 2 == 0 else sibling + value
        level, i = level + 1, i >> 1
    known[level, i] = value


def root_of(known: Mapping[Node, Tensor], total: int) -> Tensor:
    """Add up the nodes that make up the whole tree.

    Args:
        known: nodes without gaps and overlaps.
        total: how many numbers there are in all.

    Returns:
        The sum.

    Example:
        >>> root_of({(1, 0): torch.tensor(3.0), (0, 2): torch.tensor(4.0)}, 3)
        tensor(7.)
    """
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
