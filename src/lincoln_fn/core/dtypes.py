"""Casts of trees between dtypes, for `in_dtype`."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.values import Arrays, Params

T = TypeVar("T")


def cast(arrays: T, dtype: torch.dtype) -> T:
    """Cast the floating leaves of a tree, including those in its states."""

    def cast_leaf(leaf: Tensor) -> Tensor:
        return leaf.to(dtype) if leaf.is_floating_point() else leaf

    return tree.map(cast_leaf, arrays, states=True)


def cast_like(given: Params, params: Params, *, states: bool = False) -> Params:
    """Cast a tree that mirrors the parameters to their dtypes, by default their states, too."""
    return tree.map(lambda p, own: own.to(p.dtype), params, given, states=states)


def dtype_of(x: Arrays, params: Params) -> torch.dtype:
    """Return the dtype outside: that of x's floats or, if x has none, of the parameters."""
    leaves = (*tree.leaves(x), *tree.leaves(params))
    floats = (leaf.dtype for leaf in leaves if leaf.is_floating_point())
    return next(floats, torch.get_default_dtype())
