"""Clipping by the norm of a whole gradient, of which each process has a part.

Some parameters are divided among the processes, and all processes have the others. With dp_r for
the gradient of process r,

    |dp|^2 = sum_r |dp_r|^2    over the divided parameters
             + |dp|^2          over the others, once

All processes compute the same norm, so they scale by the same factor. With the norm of
its own part, each process would scale the parameters that all have by another factor.
"""

from __future__ import annotations

from functools import partial
from typing import Annotated

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import OR_INFINITE, LayerError, Params, Positive, checked, tree
from lincoln_fn.distributed.group import GROUP, Group
from lincoln_fn.distributed.sharding.sharded_params import find_sharded_leaves
from lincoln_fn.optim import Optimizer, OptimizerState, Transform
from lincoln_fn.optim.internal import clip


@checked
def clip_by_global_norm(
    max_norm: Annotated[Positive, OR_INFINITE], group: Group, *, like: Params = None
) -> Transform:
    """Scale all gradients together so that the norm of the whole is at most max_norm.

    It computes what `lf.optim.clip_by_global_norm` computes in one process that has all parameters.
    It is needed where parameters are divided: by `fully_sharded`, or in parallel layers.

    Args:
        max_norm: the largest norm, above 0.
        group: the processes among which parameters are divided.
        like: the params of the network of plain layers, of which only the shapes matter. A
            parameter of parallel layers is divided if its shape differs. None if there are no
            parallel layers.

    Returns:
        The transform, for `lf.optim.chain`.

    Raises:
        LayerError: if max_norm is not above 0; from the update, if `like` has another structure.
        LostProcessError: from the update, if a process is gone.

    Example:
        >>> clip = clip_by_global_norm(10.0, lf.distributed.alone())
        >>> dp = torch.tensor([30.0, 40.0])
        >>> lf.optim.chain(clip, lf.optim.sgd(1.0)).update(torch.zeros(2), dp, ())[0]
        tensor([-6.0000, -8.0000])
    """
    shapes = None if like is None else [leaf.shape for leaf in tree.leaves(like)]
    name = f"clip_by_global_norm({max_norm!r}, {GROUP})"
    return Transform(name, _Clipping(max_norm, group, shapes).around)


@attrs.frozen
class _Clipping:
    """Clips the gradients of an optimizer."""

    max_norm: float
    group: Group
    shapes: list[torch.Size] | None  # of the whole parameters

    def around(self, inner: Optimizer) -> Optimizer:
        return Optimizer(inner.name, inner.init, partial(self.update, inner))

    def update(
        self, inner: Optimizer, params: Params, grads: Params, state: OptimizerState
    ) -> tuple[Params, OptimizerState]:
        """Take the inner optimizer's step with the gradients dp min(1, max / |dp|)."""
        divided = {i for positions, _ in find_sharded_leaves(grads) for i in positions}
        leaves, shapes = tree.leaves(grads), self.shapes
        if shapes is not None:
            if len(shapes) != len(leaves):
                problem = f"expected params of {len(leaves)} tensors, got like with {len(shapes)}"
                raise LayerError("clip_by_global_norm", problem)
            pairs = enumerate(zip(leaves, shapes, strict=True))
            divided |= {i for i, (leaf, shape) in pairs if leaf.shape != shape}
        norm = _norm(leaves, divided, self.group)
        return inner.update(params, clip(grads, norm, self.max_norm), state)


def _norm(grads: list[Tensor], divided: set[int], group: Group) -> Tensor:
    """Compute |dp|, with the divided parameters of all processes."""
    if not grads:
        return torch.zeros(())
    # In float64, so that in float32 the norm does not depend on how the parameters are divided.
    squares = torch.stack([g.double().square().sum() for g in grads])
    is_divided = torch.tensor([i in divided for i in range(len(grads))], device=squares.device)
    own, others = squares[is_divided].sum(), squares[~is_divided].sum()
    dtype = torch.promote_types(grads[0].dtype, torch.float32)
    return (group.gather(own).sum() + others).sqrt().to(dtype)
