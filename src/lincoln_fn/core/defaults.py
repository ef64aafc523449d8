"""The functions that a layer has if it is given none, and which functions a layer has."""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

from lincoln_fn.core.keys import Key
from lincoln_fn.core.signatures import unbound
from lincoln_fn.core.values import Arrays, Backward, Cache, Forward, Grads, InputGrad, Params
from lincoln_fn.errors import later

if TYPE_CHECKING:
    from lincoln_fn.core.layer import Layer


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


def has_no_params(layer: Layer) -> bool:
    """Return whether a layer's `init` is the default, which makes no params."""
    return unbound(layer.init) is no_params


def file_of_forward(layer: Layer) -> ModuleType | None:
    """Return the module of a layer's `forward`, also where its backward is another."""
    return sys.modules.get(getattr(unbound(layer.forward), "__module__", ""))


def is_derived(layer: Layer, name: str) -> bool:
    """Return whether a layer's function is the default, which calls another of its functions."""
    function = getattr(layer, name)
    source, derived = {
        "predict": (layer.forward, forward_output),
        "input_grad": (layer.backward, backward_dx),
        "grads": (layer.backward, backward_dparams),
    }[name]
    return isinstance(function, partial) and (function.func, *function.args) == (derived, source)


def is_ours(function: Callable[..., Any]) -> bool:  # Any: of any function
    """Return whether a function is the library's, and not a user's own."""
    return str(getattr(unbound(function), "__module__", "")).startswith("lincoln_fn.")
