"""Params of which each process has a slice."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import count
from typing import ClassVar, TypeAlias

import optree
import torch

from lincoln_fn.core import EVERYTHING, TRAINED, Params, check_params, record, static, tree
from lincoln_fn.distributed.group import Group
from lincoln_fn.optim.internal import join

# The shape and the strides of each whole parameter.
Forms: TypeAlias = tuple[tuple[tuple[int, ...], tuple[int, ...]], ...]


@record
class Sharded:
    """This process's slices of a layer's parameters; states are whole."""

    is_slice: ClassVar[bool] = True

    slices: Params
    forms: Forms = static()


def collect(params: Sharded, group: Group) -> Params:
    """Collect a layer's parameters from all processes, each in its own memory layout."""
    check_params("fully_sharded", params, Sharded)
    shapes = [torch.Size(shape) for shape, _ in params.forms]
    joined = join(tree.leaves(params.slices), shapes, group)
    whole = iter(
        leaf if leaf.stride() == strides else leaf.new_empty_strided(shape, strides).copy_(leaf)
        for leaf, (shape, strides) in zip(joined, params.forms, strict=True)
    )
    return tree.map(lambda _: next(whole), params.slices)


def whole(params: Params, group: Group) -> Params:
    """Collect the parameters of every `fully_sharded` part, to predict or to save them.

    Args:
        params: of a network.
        group: the processes, all of which must call it.

    Returns:
        The params of the same network without `fully_sharded`.

    Example:
        >>> group, x = lf.distributed.alone(), torch.ones(1, 3)
        >>> params = lf.distributed.fully_sharded(lf.dense(4), group).init(lf.Key(0), x)
        >>> whole(params, group)
        Params(weight=float32[3, 4], bias=float32[4])
    """
    return optree.tree_map(
        lambda node: collect(node, group) if isinstance(node, Sharded) else node,
        params, is_leaf=lambda node: isinstance(node, Sharded), namespace=EVERYTHING,
    )  # fmt: skip


def find_sharded_leaves(params: Params) -> Iterator[tuple[list[int], list[tuple[int, ...]]]]:
    """Give the positions of the leaves of each `Sharded` in params, and their whole shapes."""
    position = count()
    nodes = optree.tree_leaves(
        params, is_leaf=lambda node: isinstance(node, Sharded), namespace=TRAINED
    )
    for node in nodes:
        positions = [next(position) for _ in tree.leaves(node)]
        if isinstance(node, Sharded):
            yield positions, [shape for shape, _ in node.forms]
