"""Trees of tensors: map over them, list their leaves, name their paths.

A tree is a tensor, a tuple, list or dict of trees, a record of trees, or None (no leaf at all).
Each function sees the trained leaves and, with `states=True`, those inside a `State`, too. optree
does the work; this module adds the two views that `record` defines, and readable paths.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable
from typing import Any, TypeAlias, TypeVar

import optree
from torch import Tensor

from lincoln_fn.core.record import EVERYTHING, TRAINED

# Any: Python's types cannot describe a tree's nesting.
Tree: TypeAlias = Any
T = TypeVar("T")
# Any: what it returns is of the kind of its tree.
_map: Any = optree.tree_map
_structure: Any = optree.tree_structure


def _view(states: bool) -> str:
    return EVERYTHING if states else TRAINED


# Any: f may return another type.
def map(f: Callable[..., Any], tree: T, *rest: Tree, states: bool = False) -> T:
    """Apply a function to every leaf, and to the leaves in the same positions of further trees.

    Args:
        f: takes one leaf of each tree and returns the new leaf.
        tree: gives the structure, and the states, which are passed through unchanged.
        *rest: trees of the same structure.
        states: whether the tensors inside a `State` are leaves, too.

    Example:
        >>> map(lambda p, g: p - g, (5, (3, None)), (1, (2, None)))
        (4, (1, None))
    """
    mapped: T = _map(f, tree, *rest, namespace=_view(states))
    return mapped


def leaves(tree: Tree, *, states: bool = False) -> list[Tensor]:
    """List the leaves from left to right: the tree's own tensors, not copies.

    Example:
        >>> leaves({"a": 1, "b": (2, None)})
        [1, 2]
    """
    return optree.tree_leaves(tree, namespace=_view(states))


def unflatten(like: T, leaves: Iterable[Any], *, states: bool = False) -> T:
    """Make a tree like another one, of other leaves from left to right.

    Example:
        >>> unflatten({"a": 1, "b": (2, None)}, [3, 4])
        {'a': 3, 'b': (4, None)}
    """
    made: T = _structure(like, namespace=_view(states)).unflatten(leaves)
    return made


def children(tree: Tree) -> Collection[Tree]:
    """Return the subtrees directly below a tree's root.

    They are the entries of a tuple or list, the fields of a record, or optree's children of another
    kind; () for a leaf or None.

    Example:
        >>> children((1, (2, 3))), children(None)
        ((1, (2, 3)), ())
    """
    if isinstance(tree, tuple | list):
        return tree
    of_record = getattr(type(tree), "__tree_children__", None)
    if of_record is not None:
        found: Collection[Tree] = of_record(tree)
        return found
    if tree is None or optree.tree_is_leaf(tree, namespace=EVERYTHING):
        return ()
    return optree.tree_flatten_one_level(tree, namespace=EVERYTHING)[0]


def paths(tree: Tree, *, states: bool = False) -> list[str]:
    """Name the leaves from left to right, such as "2.weight".

    A path is the positions in tuples and the names of fields, joined by dots; "" for a tree that is
    itself a leaf.

    Example:
        >>> paths(({"weight": 1, "bias": 2}, (), 3))
        ['0.bias', '0.weight', '2']
    """
    entries = optree.tree_paths(tree, namespace=_view(states))
    return [".".join(str(entry) for entry in path) for path in entries]


def same_structure(tree: Tree, other: Tree, *, states: bool = False) -> bool:
    """Return whether two trees have leaves in the same positions, so that `map` can take both.

    Example:
        >>> same_structure((1, None), (2, None)), same_structure((1, None), (2, 3))
        (True, False)
    """
    first, second = (optree.tree_structure(t, namespace=_view(states)) for t in (tree, other))
    return first == second
