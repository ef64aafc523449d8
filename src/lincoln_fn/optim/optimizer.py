"""The optimizer protocol.

    state         = optimizer.init(params)
    params, state = optimizer.update(params, grads, state)     one pass over the leaves

A state is a frozen record of trees that mirror the parameters, and of one count of the steps taken
(int64, of shape ()) where the update needs it; it is () where there is nothing to remember. Where
the parameters hold a `State`, these trees hold None: the same tensor in two places of a step's
input would be taken for one when the step is traced.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.layer import Params

# Any: each optimizer keeps what it needs.
OptimizerState: TypeAlias = Any
# A number, or a function of the steps taken so far (int64, of shape ()) that gives a float tensor.
LearningRate: TypeAlias = float | Callable[[Tensor], Tensor]


@attrs.frozen(eq=False, repr=False)
class Optimizer:
    """An optimizer, as the pure functions that make it.

    Args:
        name: the code that makes the optimizer; its repr.
        init: params -> state.
        update: (params, grads, state) -> (params, state), all new.
        rate: the number r, if `update` is params - r grads and nothing else: then a layer may move
            its parameters as it makes their gradients.

    Example:
        >>> still = Optimizer("still()", lambda params: (), lambda params, grads, s: (params, s))
        >>> still, still.update(1, 2, ())
        (still(), (1, ()))
    """

    name: str
    init: Callable[[Params], OptimizerState]
    update: Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]
    rate: float | None = None

    def __repr__(self) -> str:
        return self.name
