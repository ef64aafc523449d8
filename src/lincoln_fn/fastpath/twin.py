"""A layer's faster functions, and how they take the place of its formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import Any, TypeAlias

import attrs

from lincoln_fn.layer import Layer, is_derived, unbound, unchanged

# Any: the functions of every layer; each has params, a cache and hyperparameters of its own.
Function: TypeAlias = Callable[..., Any]


@attrs.frozen(eq=False)
class Twin:
    """The faster functions of one layer.

    A function that is not given is the formula's own, except that a new `forward` brings its own
    default `predict`, and a new `backward` its own default `input_grad` and `grads`, as in
    `Layer.replace`. `forward`, `predict` and `init` take the hyperparameters of the formula's.

    Args:
        formula: the module of the layer, such as `layers.sigmoid`.
        forward: (params, x, **hyperparameters) -> (y, cache); the cache may be another than the
            formula's.
        backward: (params, cache, g) -> (dx, dparams).
        predict: (params, x, **hyperparameters) -> y.
        input_grad: (params, cache, g) -> dx.
        grads: (params, cache, g) -> dparams.
        init: (key, x, **hyperparameters) -> params, the formula's in another memory layout.
        advance: (params, cache) -> params, where the cache is another than the formula's.
    """

    formula: ModuleType
    forward: Function | None = None
    backward: Function | None = None
    predict: Function | None = None
    input_grad: Function | None = None
    grads: Function | None = None
    init: Function | None = None
    advance: Function | None = None

    def matches(self, layer: Layer) -> bool:
        """Return whether every function of a layer is the formula's own.

        Args:
            layer: a single layer.

        Returns:
            False where a function has been replaced.

        Example:
            >>> from lincoln_fn.layers import sigmoid
            >>> Twin(sigmoid).matches(lf.sigmoid()), Twin(sigmoid).matches(lf.tanh())
            (True, False)
        """

        def is_own(name: str) -> bool:
            function = unbound(getattr(layer, name))
            # A layer whose hyperparameters leave it no state, batch norm without statistics, say.
            if name == "advance" and function is unchanged:
                return True
            if hasattr(self.formula, name):
                return function is getattr(self.formula, name)
            return name != "advance" and is_derived(layer, name)

        return all(
            map(is_own, ("forward", "backward", "predict", "input_grad", "grads", "advance"))
        )

    def of(self, layer: Layer) -> Layer:
        """Make a layer of the faster functions.

        Args:
            layer: a layer that `matches`.

        Returns:
            The layer, with the same name and hyperparameters.
        """
        changes = {
            name: _bound_like(getattr(layer, name), function)
            for name, function in attrs.asdict(self, recurse=False).items()
            if function is not None and name != "formula" and self._has_own(layer, name)
        }
        if self.forward is not None and self.predict is None and hasattr(self.formula, "predict"):
            changes["predict"] = layer.predict
        return layer.replace(**changes)

    def _has_own(self, layer: Layer, name: str) -> bool:
        """Return whether a function may take the layer's place: these two only of its own."""
        own = unbound(getattr(layer, name))
        return name not in ("init", "advance") or own is getattr(self.formula, name)


def _bound_like(own: Function, function: Function) -> Function:
    """Bind the hyperparameters that the layer's own function is bound to."""
    return partial(function, **own.keywords) if isinstance(own, partial) else function
