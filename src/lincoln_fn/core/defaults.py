"""The functions that a layer has if it is given none."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from lincoln_fn.core.keys import Key
from lincoln_fn.core.values import Arrays, Cache, Params
from lincoln_fn.errors import later

# By a function's name: the one that it takes its result from, and which of its two it is.
SOURCES: Final = {
    "predict": ("forward", 0),
    "input_grad": ("backward", 0),
    "grads": ("backward", 1),
}


def no_params(key: Key, x: Arrays) -> Params:
    """Initialise a layer that has no parameters."""
    return ()


def unchanged(params: Params, cache: Cache) -> Params:
    """Advance a layer that carries no state."""
    return params


# Any: y, dx or dparams, and what the layer's functions take.
def derived(name: str, source: Callable[..., tuple[Any, Any]], *given: Any) -> Any:
    """Compute y by the layer's `forward`, or dx or dparams by its `backward`."""
    of, place = SOURCES[name]
    made = source(*given)
    later.check_pair(name, of, made)
    return made[place]


def both(
    input_grad: Callable[..., Arrays], grads: Callable[..., Params], *given: Any
) -> tuple[Arrays, Params]:
    """Compute dx and dparams, each by its own function."""
    return input_grad(*given), grads(*given)
