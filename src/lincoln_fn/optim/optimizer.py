"""The optimizer protocol.

    state         = optimizer.init(params)
    params, state = optimizer.update(params, grads, state)     one pass over the leaves

A state is a frozen record of trees that mirror the parameters, and of one count of the steps taken
(int64, of shape ()) where the update needs it. It is () where there is nothing to remember. In
place of a parameter, such a tree has a tensor of its shape, or a record of tensors of other shapes
(`leaves.LeafState`). Where the parameters hold a `State`, these trees hold None: a tensor that
occurs twice in a step's input becomes one tensor when the step is traced.

An optimizer may have an adjoint, the derivative of its update. A bar is the derivative of one
number, such as a test loss after training, in a tensor; `params_bar` and `state_bar` are those of
the update's results:

    adjoints = optimizer.adjoint(params, grads, state, params_bar, state_bar)

`adjoints` has the bars of params, grads and state, and the derivative in each hyperparameter. A bar
of a state is a state. Its counts are those of the state itself, and so is a scalar that counts as a
constant.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final, TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.core import Made, NonNegative, Params, Shown, no_attribute, record, unexpected

# Any: each optimizer keeps what it needs.
OptimizerState: TypeAlias = Any
# A number, or a function of the steps taken so far (int64, of shape ()) that gives a float tensor.
LearningRate: TypeAlias = Shown[NonNegative | Callable[[Tensor], Tensor]]


@record
class Adjoints:
    """The derivatives that an adjoint returns.

    `hyperparameters` has the derivative in "lr", "weight_decay" and "momentum", of those that the
    optimizer has: float64, of shape (), or one for each optimizer of `by_path`. That of "lr" is in
    the learning rate of this step.
    """

    params: Params
    grads: Params
    state: OptimizerState
    hyperparameters: Mapping[str, Tensor]


# What users call the arguments of an update, by which a wrong order shows.
_PARAMS: Final = ("params", "param", "parameters", "p")
_GRADS: Final = ("grads", "grad", "gradients", "gradient", "dparams", "dp", "g")

Adjoint: TypeAlias = Callable[[Params, Params, OptimizerState, Params, OptimizerState], Adjoints]


@attrs.frozen(eq=False, repr=False)
class Optimizer(Made):
    """An optimizer, as the pure functions that make it.

    Args:
        name: the code that makes the optimizer; its repr.
        init: params -> state.
        update: (params, grads, state) -> (params, state), all new.
        adjoint: (params, grads, state, params_bar, state_bar) -> `Adjoints`, for the gradient of a
            training run; or the reason why there is none.

    Example:
        >>> still = Optimizer("still()", lambda params: (), lambda params, grads, s: (params, s))
        >>> still, still.update(1, 2, ())
        (still(), (1, ()))
    """

    name: str
    init: Callable[[Params], OptimizerState]
    update: Callable[[Params, Params, OptimizerState], tuple[Params, OptimizerState]]
    adjoint: Adjoint | str = "write Optimizer(name, init, update, adjoint)"

    def __attrs_post_init__(self) -> None:
        super().__attrs_post_init__()
        code = getattr(self.update, "__code__", None)  # of a function of your own
        names = () if code is None else code.co_varnames[: code.co_argcount]
        of_params, of_grads = ([n for n in names if n in found] for found in (_PARAMS, _GRADS))
        if of_params and of_grads and names.index(of_grads[0]) < names.index(of_params[0]):
            expected = "update(params, grads, state)"
            raise unexpected(self.name, expected, f"update({', '.join(names)})")

    if not TYPE_CHECKING:  # as in `Layer`

        def __getattr__(self, name):
            raise no_attribute("Optimizer", name)
