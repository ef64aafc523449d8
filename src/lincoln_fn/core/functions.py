"""The functions that a layer has if it is given none, and its `init`: the key goes where x is."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from inspect import signature
from types import FunctionType, MethodType
from typing import Any, Final

import numpy as np
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.values import Arrays, Cache, Params
from lincoln_fn.errors import later
from lincoln_fn.errors.errors import unexpected

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


class Init(partial[Params]):
    """A layer's `init`, which moves the key to x's device, and says what is missing in a call.

    Params are made on the key's device, and this is the one place where a key is moved: the `init`
    of a network moves it to x. The parts get it as it then is, and most get an x on `meta`.
    """

    def __call__(self, *arguments: Any, **options: Any) -> Params:  # Any: the key, x, and options
        """Call the function."""
        if len(arguments) + len(options) < 2 and not self._binds(*arguments, **options):
            later.check_not_missing(
                "init", "net.init(lf.Key(0), x)", ("key", "x"), arguments, options
            )
        given = dict(zip(("key", "x"), arguments, strict=False)) | options
        if isinstance(given.get("key"), Key):
            key = _beside(given["key"], given.get("x"))
            if arguments:
                arguments = (key, *arguments[1:])
            else:
                options["key"] = key
        params = super().__call__(*arguments, **options)
        _check_no_arrays(params)
        return params

    def _binds(self, *arguments: Any, **options: Any) -> bool:  # Any: as above
        """Return whether the function takes a call, as one of your own may without an x."""
        try:
            signature(self).bind(*arguments, **options)
        except (TypeError, ValueError):
            return False
        return True


def _beside(key: Key, x: Arrays) -> Key:
    """Move a key to the device of x's tensors that have values."""
    for leaf in tree.leaves(x):
        if isinstance(leaf, Tensor) and not leaf.is_meta:
            return key.near(leaf)
    return key


def _check_no_arrays(params: Params) -> None:
    """Refuse arrays of numpy, which no other function of the protocol takes."""
    for i, leaf in enumerate(tree.leaves(params)):
        if isinstance(leaf, np.ndarray):
            path = tree.paths(params)[i]
            got = f"an ndarray{path and f' at {path}'}"
            raise unexpected("init", "init to return tensors", got, "convert it by torch.as_tensor")


def as_init(init: Callable[[Key, Arrays], Params]) -> Callable[[Key, Arrays], Params]:
    """Make a function an `Init`, unless it is an object of another kind."""
    is_plain = isinstance(init, FunctionType | MethodType | partial)
    return Init(init) if is_plain and not isinstance(init, Init) else init
