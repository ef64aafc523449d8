"""The gradient protocol: how a training step computes what its optimizer is given.

    state          = gradient.init(net, params)
    dparams, state = gradient.compute(net, params, cache, g, state, key)

    net      is the network, of faster functions or not; each part gets all examples
    params   is what `forward` was given
    cache    is what `forward` returned beside y, and is the caller's own
    g        is dL/dy
    state    is what the last step returned, at first that of `init`; () if nothing is kept
    key      is another one in each step: for noise, and for random vectors
    dparams  mirrors params, as `net.grads` returns it

Without a gradient of its own, a step gives the optimizer `net.grads(params, cache, g)`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias

import attrs

from lincoln_fn.core import Arrays, Cache, Key, Layer, Made, Params, check_functions

Reduction: TypeAlias = Literal["mean", "sum"]
# Any: each gradient keeps what it needs.
GradientState: TypeAlias = Any
Compute: TypeAlias = Callable[
    [Layer, Params, Cache, Arrays, GradientState, Key], tuple[Params, GradientState]
]


def no_state(net: Layer, params: Params) -> GradientState:
    """Initialise a gradient that keeps nothing."""
    return ()


@attrs.frozen(eq=False, repr=False, getstate_setstate=False)
class Gradient(Made):
    """A way to compute the gradient of a step, as the pure functions that make it.

    Args:
        name: the code that makes it; its repr.
        compute: (net, params, cache, g, state, key) -> (dparams, state).
        init: (net, params) -> state; the default keeps nothing.
        reduction: "mean" or "sum" if it depends on how the loss reduces; else None.
        by_example: whether it needs the gradient of each example's own loss. Then a step refuses a
            loss in which an example moves the gradients of others.

    Raises:
        LayerError: if name is not a string, or a function is not callable.

    Example:
        >>> def half(net, params, cache, g, state, key):
        ...     return lf.tree.map(lambda dp: dp / 2, net.grads(params, cache, g)), state
        >>> net, x = lf.dense(1), torch.ones(2, 3)
        >>> optimizer, gradient = lf.optim.sgd(0.1), Gradient("half()", half)
        >>> step = lf.make_step(net, lf.losses.mse(), optimizer, gradient=gradient)
        >>> state, value = step(lf.init_state(net, optimizer, lf.Key(0), x), (x, torch.ones(2, 1)))
    """

    name: str
    compute: Compute
    init: Callable[[Layer, Params], GradientState] = no_state
    reduction: Reduction | None = None
    by_example: bool = False

    def __attrs_post_init__(self) -> None:
        check_functions("Gradient", self.name, compute=self.compute, init=self.init)
