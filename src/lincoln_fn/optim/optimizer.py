"""The optimizer protocol.

    state         = optimizer.init(params)
    params, state = optimizer.update(params, grads, state)     one pass over the leaves

A state is a frozen record of trees that mirror the parameters, and of one count of the steps taken
(int64, of shape ()) where the update needs it. It is () where there is nothing to remember. Where
the parameters hold a `State`, these trees hold None: a tensor that occurs twice in a step's input
becomes one tensor when the step is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core.layer import Params
from lincoln_fn.errors.arguments import NonNegative, Shown
from lincoln_fn.errors.kinds import check_functions

# Any: each optimizer keeps what it needs.
OptimizerState: TypeAlias = Any
# A number, or a function of the steps taken so far (int64, of shape ()) that gives a float tensor.
LearningRate: TypeAlias = Shown[NonNegative | Callable[[Tensor], Tensor]]


@attrs.frozen(eq=False, repr=False)
class Optimizer:
    """An optimizer, as the pure functions that make it.

    Args:
        name: the code that makes the optimizer; its repr.
        init: params -> state.
        update: (params, grads, state) -> (params, state), all new.

    Example:
        >>> still = Optimizer("still()", lambda params: (), lambda params, grads, s: (params, s))
        >>> still, still.update(1, 2, ())
        (still(), (1, ()))
    """

    name: str
    init: Callable[[Params], OptimizerState]
    update: Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]

    def __attrs_post_init__(self) -> None:
        check_functions("Optimizer", self.name, init=self.init, update=self.update)

    def __repr__(self) -> str:
        return self.name
