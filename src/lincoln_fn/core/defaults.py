"""The functions that a layer has if it is given none."""

from __future__ import annotations

from lincoln_fn.core.keys import Key
from lincoln_fn.core.values import Arrays, Backward, Cache, Forward, Grads, InputGrad, Params
from lincoln_fn.errors import later


def no_params(key: Key, x: Arrays) -> Params:
    """Initialise a layer that has no parameters."""
    return ()


def unchanged(params: Params, cache: Cache) -> Params:
    """Advance a layer that carries no state."""
    return params


def forward_output(forward: Forward, params: Params, x: Arrays) -> Arrays:
    """Compute y by the layer's `forward`."""
    made = forward(params, x)
    later.check_pair("predict", "forward", made)
    return made[0]


def backward_dx(backward: Backward, params: Params, cache: Cache, g: Arrays) -> Arrays:
    """Compute dx by the layer's `backward`."""
    made = backward(params, cache, g)
    later.check_pair("input_grad", "backward", made)
    return made[0]


def backward_dparams(backward: Backward, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute dparams by the layer's `backward`."""
    made = backward(params, cache, g)
    later.check_pair("grads", "backward", made)
    return made[1]


def both(
    input_grad: InputGrad, grads: Grads, params: Params, cache: Cache, g: Arrays
) -> tuple[Arrays, Params]:
    """Compute dx and dparams, each by its own function."""
    return input_grad(params, cache, g), grads(params, cache, g)
