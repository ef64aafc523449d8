"""Trees of tensors as flat lists, and back: what a compiled step does at every call."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import optree
from torch import Tensor

from lincoln_fn.layer import Arrays
from lincoln_fn.record import EVERYTHING

# Any: optree's class, whose constructor no type checker knows.
Structure: TypeAlias = Any

# How deep a tree is written out; Python reads a few hundred parentheses in each other.
_DEEPEST: Final = 32


def flatten(given: Arrays) -> tuple[list[Tensor], Structure]:
    """List every tensor of a tree, from left to right.

    Args:
        given: any tree.

    Returns:
        The leaves, and the structure that puts them together again.
    """
    return optree.tree_flatten(given, namespace=EVERYTHING)


def builder(structure: Structure) -> Callable[[Sequence[Tensor]], Any]:  # Any: a tree of its kind
    """Write the function that puts a tree together again, as attrs writes a record's constructor.

    It takes less time than optree, which is made for whatever tree comes: a small network's step
    notices.

    Args:
        structure: the tree's.

    Returns:
        leaves -> the tree.

    Example:
        >>> builder(flatten((torch.ones(2), {"a": torch.zeros(3)}))[1])([5, 7])
        (5, {'a': 7})
    """
    names: dict[str, object] = {}

    def named(function: object) -> str:
        names[f"make_{len(names)}"] = function
        return f"make_{len(names) - 1}"

    def written(part: Structure, first: int, depth: int = 0) -> str:
        if part.is_leaf():
            return f"leaves[{first}]"
        if depth == _DEEPEST:
            return f"{named(part.unflatten)}(leaves[{first}:{first + part.num_leaves}])"
        entries = ""
        for child in part.children():
            entries += f"{written(child, first, depth + 1)}, "
            first += child.num_leaves
        if part.type is tuple:
            return f"({entries})"
        make = getattr(part.type, "__tree_make__", None)
        if make is not None:
            return f"{named(make)}({entries})"
        return f"{named(part.one_level().unflatten)}(({entries}))"

    source = f"lambda leaves: {written(structure, 0)}"
    built: Callable[[Sequence[Tensor]], Any] = eval(source, names)
    return built
