"""What a function returned, if it is of another kind than expected."""

from __future__ import annotations

from dataclasses import is_dataclass

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, tree


def not_a_tensor(arrays: Arrays) -> str:
    """Tell of the first leaf that is no tensor; "" if all are."""
    other = [i for i, leaf in enumerate(tree.leaves(arrays)) if not isinstance(leaf, Tensor)]
    if not other:
        return ""
    leaf: object = tree.leaves(arrays)[other[0]]
    path, kind = tree.paths(arrays)[other[0]], type(leaf).__name__
    is_record = attrs.has(type(leaf)) or is_dataclass(leaf)
    mend = ": make its class a record by @lf.record" if is_record else ""
    return f"{path} has the type {kind}, expected a tensor{mend}"


def other_kind(expected: dict[str, Arrays], given: dict[str, Arrays]) -> str:
    """Say which of two trees with the same leaves is of another kind, such as a list."""
    path = next(key for key in given if not tree.same_structure(expected[key], given[key]))
    kinds = [type(trees[path]).__name__ for trees in (given, expected)]
    if kinds[0] == kinds[1]:
        return f"{path} has parts of other kinds than {path.removeprefix('d')}"
    return f"{path} is a {kinds[0]}, expected a {kinds[1]} as {path.removeprefix('d')} is"
