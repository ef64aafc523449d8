"""Shared by the optimizers' adjoints: what undoes `leaves` and `rules`, from the last line up.

A bar is the derivative of one number in a tensor. The bars of what an update returns become those
of what it was given, by the chain rule: for y = f(x, z),

    bar x += (dy)/(dx) bar y
    bar z += (dy)/(dz) bar y

In a rule's code p, dp and the kept tensors are those before the update, and `p_bar` is at first
that of the new p.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, TypeAlias

import optree
import torch
from torch import Tensor

from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import TRAINED
from lincoln_fn.optim.optimizer import Adjoint, Adjoints, Optimizer

# A product of two tensors for each hyperparameter; their sum is its derivative.
Products: TypeAlias = dict[str, Tensor]
# Any: (p, dp, *kept, p_bar, *kept_bar) -> (p_bar, dp_bar, *kept_bar, products), for a leaf.
AdjointRule: TypeAlias = Callable[..., tuple[Any, ...]]


def adjoint_leaves(
    rule: AdjointRule,
    params: Params,
    grads: Params,
    kept: tuple[Params, ...],
    params_bar: Params,
    kept_bar: tuple[Params, ...],
) -> tuple[Params, Params, list[Params], Mapping[str, Tensor]]:
    """Apply a rule to every leaf: the bars of params, grads and kept, and the derivatives."""
    _, structure = optree.tree_flatten(params, namespace=TRAINED)
    count = structure.num_leaves
    columns = [
        [None] * count if each is None else optree.tree_leaves(each, namespace=TRAINED)
        for each in (params, grads, *kept, params_bar, *kept_bar)
    ]
    rows = [rule(*row) for row in zip(*columns, strict=True)]
    made = [
        structure.unflatten([row[i].to(p.dtype) for row, p in zip(rows, columns[0], strict=True)])
        for i in range(2)
    ]
    bars = [
        None if each is None else optree.tree_unflatten(
            optree.tree_structure(each, namespace=TRAINED),
            [row[2 + i].to(p.dtype) for row, p in zip(rows, columns[0], strict=True)],
        )
        for i, each in enumerate(kept)
    ]  # fmt: skip
    return made[0], made[1], bars, _summed([row[-1] for row in rows])


def _summed(products: list[Products]) -> Mapping[str, Tensor]:
    names = products[0] if products else {}
    return {
        name: torch.stack([of_leaf[name].sum(dtype=torch.float64) for of_leaf in products]).sum()
        for name in names
    }


def around(inner: Optimizer, adjoint: Callable[..., Adjoints], *arguments: object) -> Adjoint | str:
    """Bind a transform's adjoint to the inner optimizer's; that has none if the inner one has none.

    The transform's is (inner's adjoint, *arguments, params, grads, state, params_bar, state_bar).
    """
    return inner.adjoint if isinstance(inner.adjoint, str) else partial(
        adjoint, inner.adjoint, *arguments
    )  # fmt: skip


def root_slope(v: Tensor) -> Tensor:
    """Compute the derivative of `rules.root`: 1 / (2 sqrt(v)), and 0 where v is 0."""
    return torch.where(v == 0, 0, 0.5 * v.rsqrt())


def regularize_bar(
    p: Tensor, p_bar: Tensor, dp_bar: Tensor, weight_decay: float | Tensor, maximize: bool
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo dp <- dp + weight_decay p: the bars of p and dp, and weight_decay's product."""
    of_weight_decay = p * dp_bar
    if weight_decay:
        p_bar = p_bar + weight_decay * dp_bar
    return p_bar, dp_bar.neg() if maximize else dp_bar, of_weight_decay


def decay_bar(
    p: Tensor, p_bar: Tensor, lr: float | Tensor, weight_decay: float | Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo p <- (1 - lr weight_decay) p: p's bar, and the products of lr and weight_decay."""
    product = p * p_bar
    return p_bar * (1 - lr * weight_decay), -weight_decay * product, -lr * product


def either_decay_bar(
    p: Tensor, p_bar: Tensor, dp_bar: Tensor, lr: float | Tensor, weight_decay: float | Tensor, *,
    decoupled: bool, maximize: bool,
) -> tuple[Tensor, Tensor, Products]:  # fmt: skip
    """Undo weight decay of either kind: the bars of p and dp, and its products."""
    if not decoupled:
        p_bar, dp_bar, product = regularize_bar(p, p_bar, dp_bar, weight_decay, maximize)
        return p_bar, dp_bar, {"weight_decay": product}
    p_bar, of_lr, of_weight_decay = decay_bar(p, p_bar, lr, weight_decay)
    products = {"lr": of_lr, "weight_decay": of_weight_decay}
    return p_bar, dp_bar.neg() if maximize else dp_bar, products
