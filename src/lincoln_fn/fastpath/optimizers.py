"""Faster updates beside the optimizers' formulas, and `fast_optimizer`, which applies them.

ATen's kernel for Adam and AdamW makes one pass over each leaf. On one thread of an EPYC it takes
0.28 ms for 0.4 million numbers, and the formula 0.65 ms; for 4 million numbers 4.4 and 10.2 ms. It
updates leaf by leaf: the new bits of a leaf do not depend on the other leaves.

A donated state is updated in place, with the same bits as in new memory. Without that, a step of
mlp with momentum needs 1.54 of torch's memory, and one with AdamW 1.17.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import bind_like, is_plain, is_transformed, with_spec
from lincoln_fn.optim import LearningRate, Optimizer
from lincoln_fn.optim.adam import rules as adam_rules
from lincoln_fn.optim.internal import At, Leafwise, Lists
from lincoln_fn.optim.leafwise import update
from lincoln_fn.optim.sgd import rules as sgd_rules

OfLists: TypeAlias = Callable[[Lists], Lists]


def sgd_update(
    kind: Leafwise,
    at: At,
    formula: OfLists,
    *,
    lr: LearningRate,
    momentum: float,
    weight_decay: float,
    dampening: float,
    nesterov: bool,
    maximize: bool,
) -> OfLists:
    """Compute p <- p - lr b in the memory of donated params and momentum."""
    # Rarer forms of SGD are computed by the formula, in new memory.
    counts = callable(lr) or (momentum and dampening)
    if not kind.donate or counts or weight_decay or nesterov or maximize:
        return formula

    def update(lists: Lists) -> Lists:
        p, direction, b = lists
        if momentum:
            for dp, b_leaf in zip(direction, b, strict=True):
                torch.add(dp, b_leaf, alpha=momentum, out=b_leaf)
            direction = b
        if p:
            torch._foreach_add_(p, direction, alpha=-at.lr)
        return [[None if leaf is None else leaf.detach() for leaf in leaves] for leaves in (p, b)]

    return update


def adam_update(
    kind: Leafwise,
    at: At,
    formula: OfLists,
    *,
    betas: tuple[float, float],
    eps: float,
    weight_decay: float,
    maximize: bool,
) -> OfLists:
    """Compute Adam's update, each leaf by ATen's kernel if possible."""
    if isinstance(at.lr, Tensor) and is_transformed(at.lr):
        return formula
    kernel = torch._fused_adamw_ if kind.decoupled else torch._fused_adam_
    # The kernel works in place: on the donated leaves, or on copies.
    own = Tensor.detach if kind.donate else torch.clone

    def by_kernel(lists: Lists) -> Lists:
        p, dp, *kept = lists
        new: Lists = [[None if leaf is None else own(leaf) for leaf in each] for each in (p, *kept)]
        p, m, v, v_max = new
        largest = [leaf for leaf in v_max if leaf is not None]
        if p:
            kernel(
                p, dp, m, v, largest, [at.next_step.float()] * len(p),
                lr=at.lr, beta1=betas[0], beta2=betas[1], eps=eps, weight_decay=weight_decay,
                amsgrad=bool(largest), maximize=maximize,
            )  # fmt: skip
        return new

    def update(lists: Lists) -> Lists:
        is_fast = [_kernel_takes(*leaves) for leaves in zip(*lists, strict=True)]
        if all(is_fast):
            return by_kernel(lists)
        new = [
            (by_kernel if fast else formula)([[leaf] for leaf in leaves])
            for fast, leaves in zip(is_fast, zip(*lists, strict=True), strict=True)
        ]
        return [[each[i][0] for each in new] for i in range(len(lists) - 1)]

    return update


def _kernel_takes(p: Tensor, *others: Tensor | None) -> bool:
    """Return whether the kernel, which reads memory from front to back, can update a leaf."""
    # While torch traces, the operations are computed by the formula, which a compiler can fuse;
    # likewise under autograd and torch.func, which have to see them.
    leaves = [p, *(leaf for leaf in others if leaf is not None)]
    return is_plain(*leaves) and all(
        type(leaf) is Tensor
        and leaf.device.type == "cpu"
        and leaf.dtype is p.dtype
        and leaf.is_contiguous()
        for leaf in leaves
    )


def fast_optimizer(optimizer: Optimizer, *, donate: bool = False, exact: bool = False) -> Optimizer:
    """Make the same optimizer of faster functions, those within `chain` and `by_path` too."""
    # A user's own functions stay. With `donate` the update may be computed in the memory of the
    # params and the state, except within another optimizer, which may need what it was given. With
    # `exact` the bits do not depend on how params are divided: Adam's kernel, which rounds a
    # tensor's last numbers differently, is not used.
    own = optimizer.update
    if not isinstance(own, partial):
        return optimizer
    if own.func is update:
        kind: Leafwise = own.args[0]
        faster = None if exact and kind.rules is adam_rules else _FASTER.get(kind.rules)
        arguments = [attrs.evolve(kind, faster=faster, donate=donate)]
    else:
        arguments = [*(own.args if exact else map(_faster, own.args))]
    function = bind_like(own.func, own, *arguments)
    return with_spec(Optimizer(optimizer.name, optimizer.init, function), optimizer.spec)


def _faster(argument: object) -> object:
    if isinstance(argument, Optimizer):
        return fast_optimizer(argument)
    if isinstance(argument, tuple) and all(isinstance(part, Optimizer) for part in argument):
        return tuple(map(_faster, argument))
    return argument


# By the rules of an optimizer, what computes its update faster.
_FASTER: Final[dict[object, Callable[..., OfLists]]] = {
    adam_rules: adam_update,
    sgd_rules: sgd_update,
}
