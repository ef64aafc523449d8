"""A layer's faster functions, and how they take the place of its formula.

Some are operations of this library's own, which a traced step knows by a name. Where a kernel or
its backward pass has no derivative, `unless_transformed` gives autograd and torch.func the formula.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from types import ModuleType
from typing import Any, Final, TypeAlias

import attrs

from lincoln_fn import core
from lincoln_fn.core import Layer, bind_like, declare_like, is_transformed, tensors_in

# Any: each function of a layer has params, a cache and hyperparameters of its own.
Argument: TypeAlias = Any
Function: TypeAlias = Callable[..., Argument]
NAMES: Final = ("forward", "backward", "predict", "input_grad", "grads", "advance")


@attrs.frozen(eq=False)
class Twin:
    """The faster functions of the layers that the constructors of a module, `formula`, make."""

    # They take what the formula's functions take, hyperparameters too, and may have another cache.
    # A function that is not given is the formula's own. But a new `forward` has its own default
    # `predict`, and a new `backward` its own default `input_grad` and `grads`, as in
    # `Layer.replace`.
    # They declare what the formula's declare. `to_formula_cache`, (params, cache) -> the formula's
    # cache, makes what its terms are computed from, where the caches differ.

    formula: ModuleType
    forward: Function | None = None
    backward: Function | None = None
    predict: Function | None = None
    input_grad: Function | None = None
    grads: Function | None = None
    advance: Function | None = None
    to_formula_cache: Function | None = None

    def __attrs_post_init__(self) -> None:
        for name in NAMES:
            own, formula = getattr(self, name), getattr(self.formula, name, None)
            if own is not None and formula is not None:
                declare_like(own, formula, self.to_formula_cache)

    def faster(self, layer: Layer) -> Layer:
        """Make a layer of the faster functions, with the hyperparameters of one of the formula."""
        bound = {name: getattr(layer, name) for name in NAMES}
        if core.is_derived(layer, "predict"):
            bound["predict"] = layer.forward
        constructor = core.called(layer.name)
        changes = {
            name: core.shape_checked(bind_like(getattr(self, name), bound[name]), constructor)
            for name in NAMES
            if getattr(self, name) is not None
            # Hyperparameters may leave a layer no state, such as batch norm without statistics.
            and (name != "advance" or layer.advance is not core.unchanged)
        }
        if self.forward is not None and self.predict is None and hasattr(self.formula, "predict"):
            changes["predict"] = layer.predict
        return layer.replace(**changes, spec=layer.spec)


def unless_transformed(
    formula: Function, cache: type | None = None, remake: Function | None = None
) -> Callable[[Function], Function]:
    """Decorate a kernel's function: the formula computes what autograd or torch.func sees."""
    formula = core.shape_checked(formula)

    def decorate(own: Function) -> Function:
        kernel = core.shape_checked(own, formula)

        @wraps(own)
        def choose(*arguments: Argument, **options: Argument) -> Argument:
            if cache is None:
                function = formula if is_transformed(*tensors_in(arguments)) else kernel
                return function(*arguments, **options)
            others = [given for given in arguments if not isinstance(given, cache)]
            if len(others) == len(arguments):
                return formula(*arguments, **options)
            if remake is None or not is_transformed(*tensors_in(others)):
                return kernel(*arguments, **options)
            made = remake(*arguments)
            return formula(*(made if isinstance(x, cache) else x for x in arguments), **options)

        del choose.__wrapped__  # its signature: a cache may be the formula's, too
        return choose

    return decorate
