"""Shared by the optimizers' adjoints: what undoes `leaves` and `rules`, from the last line up.

A bar is the derivative of one number in a tensor. The bars of what an update returns become those
of what it was given, by the chain rule: for y = f(x, z),

    bar x += (dy)/(dx) bar y
    bar z += (dy)/(dz) bar y

In a rule's code p, dp and the kept tensors are those before the update, and `p_bar` is at first
that of the new p. Weight decay is not in it: `LeafAdjoint` undoes that.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, wraps
from typing import Any, TypeAlias

import attrs
import optree
import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Params
from lincoln_fn.core.record import TRAINED, evolve
from lincoln_fn.optim.leaves import is_leaf_state
from lincoln_fn.optim.optimizer import Adjoint, Adjoints, Optimizer, OptimizerState
from lincoln_fn.optim.rules import regularize_gradient

# Any: (p, dp, *kept, p_bar, *kept_bar) -> (p_bar, dp_bar, *kept_bar, products), for a leaf. The sum
# of a hyperparameter's product, a tensor, is its derivative.
AdjointRule: TypeAlias = Callable[..., tuple[Any, ...]]


@attrs.frozen(eq=False)
class LeafAdjoint:
    """The adjoint of a leaf's update between its weight decay and the rest.

    `kept` names what the state keeps of each leaf. `lr` is that of decoupled weight decay,
    p <- (1 - lr weight_decay) p; None is for dp <- dp + weight_decay p. A `weight_decay` of None is
    for a rule that undoes its weight decay itself.
    """

    rule: AdjointRule
    kept: tuple[str, ...]
    weight_decay: float | Tensor | None
    lr: float | Tensor | None = None
    maximize: bool = False

    def __call__(self, p: Tensor, dp: Tensor, *rest: Tensor | None) -> tuple[Any, ...]:
        """Apply the rule, undo weight decay, and sum the products."""
        decay = self.weight_decay if self.lr is None and self.weight_decay is not None else 0.0
        dp = regularize_gradient(p, dp, decay, self.maximize)
        p_bar, dp_bar, *kept_bar, products = self.rule(p, dp, *rest)
        sums = {name: product.sum().double() for name, product in products.items()}
        if self.weight_decay is None:
            return p_bar, dp_bar.neg() if self.maximize else dp_bar, *kept_bar, sums
        of_decay = (p * (dp_bar if self.lr is None else p_bar)).sum().double()
        if self.lr is None:
            sums["weight_decay"] = of_decay
            p_bar = p_bar + decay * dp_bar if decay else p_bar
        else:
            sums["lr"] = sums["lr"] - self.weight_decay * of_decay
            sums["weight_decay"] = -self.lr * of_decay
            p_bar = p_bar * (1 - self.lr * self.weight_decay)
        return p_bar, dp_bar.neg() if self.maximize else dp_bar, *kept_bar, sums


def leaf_by_leaf(make: Callable[..., LeafAdjoint]) -> Callable[..., Adjoints]:
    """Make an optimizer's adjoint of a function (state, *, hyperparameters) -> `LeafAdjoint`."""

    @wraps(make)
    def adjoint(
        params: Params, grads: Params, state: OptimizerState, params_bar: Params,
        state_bar: OptimizerState, **hyperparameters: Any,
    ) -> Adjoints:  # fmt: skip  # Any: the optimizer's own
        of_leaf = make(state, **hyperparameters)
        _, structure = optree.tree_flatten(params, namespace=TRAINED)
        kept, kept_bar = (
            [getattr(each, name, None) for name in of_leaf.kept] for each in (state, state_bar)
        )
        columns = [
            [None] * structure.num_leaves
            if each is None
            else optree.tree_leaves(each, is_leaf=is_leaf_state, namespace=TRAINED)
            for each in (params, grads, *kept, params_bar, *kept_bar)
        ]
        rows = [of_leaf(*row) for row in zip(*columns, strict=True)]
        pairs = [*zip(rows, tree.leaves(params), strict=True)]
        made = [
            None if like is None else optree.tree_unflatten(
                optree.tree_structure(like, is_leaf=is_leaf_state, namespace=TRAINED),
                [tree.map(partial(_to, p.dtype), row[i]) for row, p in pairs],
            )
            for i, like in enumerate((params, params, *kept))
        ]  # fmt: skip
        new = evolve(state, **dict(zip(of_leaf.kept, made[2:], strict=True))) if state else state
        sums = [row[-1] for row in rows]
        names = sums[0] if sums else ()
        of_all = {name: torch.stack([each[name] for each in sums]).sum() for name in names}
        return Adjoints(made[0], made[1], new, of_all)

    return adjoint


def _to(dtype: torch.dtype, bar: Tensor) -> Tensor:
    return bar.to(dtype)


def around(inner: Optimizer, adjoint: Callable[..., Adjoints], *arguments: object) -> Adjoint | str:
    """Bind a transform's adjoint to the inner optimizer's; that has none if the inner one has none.

    The transform's is (inner's adjoint, *arguments, params, grads, state, params_bar, state_bar).
    """
    return inner.adjoint if isinstance(inner.adjoint, str) else partial(
        adjoint, inner.adjoint, *arguments
    )  # fmt: skip


def moments_back(
    dp: Tensor, m_bar: Tensor, v_bar: Tensor, betas: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo `rules.moments`: compute the bars of dp and of the old means from those of the new."""
    b1, b2 = betas
    dp_bar = torch.addcmul((1 - b1) * m_bar, dp, v_bar, value=2 * (1 - b2))
    return dp_bar, b1 * m_bar, b2 * v_bar


def root_slope(v: Tensor) -> Tensor:
    """Compute the derivative of `rules.root`: 1 / (2 sqrt(v)), and 0 where v is 0."""
    return torch.where(v == 0, 0, 0.5 * v.rsqrt())
