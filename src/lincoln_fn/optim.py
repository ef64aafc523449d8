"""Optimizers: how parameters move along their gradients.

state         = optimizer.init(params)
params, state = optimizer.update(params, grads, state)     one pass over the leaves
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.layer import Params
from lincoln_fn.shapes import LayerError

# Any: each optimizer keeps what it needs.
OptimizerState: TypeAlias = Any


@attrs.frozen(eq=False, repr=False)
class Optimizer:
    """An optimizer, as the pure functions that make it.

    Args:
        name: the code that makes the optimizer; its repr.
        init: params -> state.
        update: (params, grads, state) -> (params, state), all new.
    """

    name: str
    init: Callable[[Params], OptimizerState]
    update: Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]

    def __repr__(self) -> str:
        return self.name


def sgd(lr: float = 1e-3) -> Optimizer:
    """Make stochastic gradient descent: p <- p - lr dp.

    Args:
        lr: the learning rate, above 0.

    Returns:
        The optimizer, whose state is ().

    Raises:
        ValueError: if lr is not above 0.
        LayerError: from `update`, if the gradients do not mirror the parameters.

    Example:
        >>> optimizer = sgd(0.5)
        >>> optimizer.update((torch.tensor([1.0]),), (torch.tensor([4.0]),), ())
        ((tensor([-1.]),), ())
    """
    if not lr > 0:
        raise ValueError(f"sgd: expected lr above 0, got {lr}")

    def moved(p: Tensor, dp: Tensor) -> Tensor:
        if p.shape != dp.shape:
            shapes = f"{tuple(p.shape)}, got {tuple(dp.shape)}"
            raise LayerError("sgd", f"expected a gradient of its parameter's shape {shapes}")
        return torch.sub(p, dp, alpha=lr)

    def update(
        params: Params, grads: Params, state: OptimizerState
    ) -> tuple[Params, OptimizerState]:
        return tree.map(moved, params, grads), state

    return Optimizer(f"sgd({lr})", lambda params: (), update)
