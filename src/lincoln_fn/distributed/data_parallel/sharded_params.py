"""Params of which each process has a slice, and clipping by the norm of their whole gradient.

Some parameters are divided among the processes, and all processes have the others. With dp_r for
the gradient of process r,

    |dp|^2 = sum_r |dp_r|^2    over the divided parameters
             + |dp|^2          over the others, once

All processes compute the same norm, so they scale by the same factor. With the norm of
its own part, each process would scale the parameters that all have by another factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import count
from typing import Annotated, ClassVar, TypeAlias

import optree
import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import EVERYTHING, OR_INFINITE, TRAINED, Params, Positive, record, static, tree
from lincoln_fn.distributed.group import GROUP, Group
from lincoln_fn.optim import Optimizer, OptimizerState, Transform
from lincoln_fn.optim.internal import clip, join

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
    core.check_params("fully_sharded", params, Sharded)
    shapes = [torch.Size(shape) for shape, _ in params.forms]
    joined = join(tree.leaves(params.slices), shapes, group)
    whole = iter(
        leaf if leaf.stride() == strides else leaf.new_empty_strided(shape, strides).copy_(leaf)
        for leaf, (shape, strides) in zip(joined, params.forms, strict=True)
    )
    return tree.map(lambda _: next(whole), params.slices)


def whole(params: Params, group: Group) -> Params:
    """Collect the parameters of every `fully_sharded` part, to predict or to save them.

    All processes must call it. The params are those of the network without `fully_sharded`.

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


@core.checked
def clip_by_global_norm(
    max_norm: Annotated[Positive, OR_INFINITE], group: Group, *, like: Params = None
) -> Transform:
    """Scale all gradients together so that the norm of the whole is at most max_norm.

    It computes what `lf.optim.clip_by_global_norm` computes in one process that has all parameters.
    It is needed where parameters are divided: by `fully_sharded`, or in parallel layers.

    Args:
        like: the params of the network of plain layers, of which only the shapes matter. A
            parameter of parallel layers is divided if its shape differs. None if there are no
            parallel layers.

    Example:
        >>> clip = clip_by_global_norm(10.0, lf.distributed.alone())
        >>> dp = torch.tensor([30.0, 40.0])
        >>> lf.optim.chain(clip, lf.optim.sgd(1.0)).update(torch.zeros(2), dp, ())[0]
        tensor([-6.0000, -8.0000])
    """
    shapes = None if like is None else [leaf.shape for leaf in tree.leaves(like)]
    name = f"clip_by_global_norm({max_norm!r}, {GROUP})"
    return Transform(name, partial(_around, max_norm, group, shapes))


def _around(
    max_norm: float, group: Group, shapes: list[torch.Size] | None, inner: Optimizer
) -> Optimizer:
    return Optimizer(inner.name, inner.init, partial(_update, max_norm, group, shapes, inner))


def _update(
    max_norm: float, group: Group, shapes: list[torch.Size] | None, inner: Optimizer,
    params: Params, grads: Params, state: OptimizerState,
) -> tuple[Params, OptimizerState]:  # fmt: skip
    """Take the inner optimizer's step with the gradients dp min(1, max / |dp|)."""
    divided = {i for positions, _ in find_sharded_leaves(grads) for i in positions}
    leaves = tree.leaves(grads)
    if shapes is not None:  # of the whole parameters
        if len(shapes) != len(leaves):
            expected = f"params of {len(leaves)} tensors"
            raise core.unexpected("clip_by_global_norm", expected, f"like with {len(shapes)}")
        pairs = enumerate(zip(leaves, shapes, strict=True))
        divided |= {i for i, (leaf, shape) in pairs if leaf.shape != shape}
    return inner.update(params, clip(grads, _norm(leaves, divided, group), max_norm), state)


def _norm(grads: list[Tensor], divided: set[int], group: Group) -> Tensor:
    if not grads:
        return torch.zeros(())
    # In float64, so that in float32 the norm does not depend on how the parameters are divided.
    squares = torch.stack([g.double().square().sum() for g in grads])
    is_divided = torch.tensor([i in divided for i in range(len(grads))], device=squares.device)
    own, others = squares[is_divided].sum(), squares[~is_divided].sum()
    dtype = torch.promote_types(grads[0].dtype, torch.float32)
    return (group.gather(own).sum() + others).sqrt().to(dtype)
