"""Sums of trees, as gradients of one x from several layers are."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays


def add_trees(first: Arrays, second: Arrays) -> Arrays:
    """Add two trees of one structure, leaf by leaf."""
    # Most are tensors or pairs of them, for which tree.map would take several times as long.
    if isinstance(first, Tensor) and isinstance(second, Tensor):
        return first + second
    if first is None and second is None:
        return None
    if type(first) is type(second) is tuple and len(first) == len(second):
        return tuple(map(add_trees, first, second))
    return tree.map(torch.add, first, second)
