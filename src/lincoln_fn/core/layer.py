"""The layer protocol.

    y, cache    = layer.forward(params, x)           pure: same params and x, same y
    dx, dparams = layer.backward(params, cache, g)   g is dL/dy; each result mirrors its argument

    params  = layer.init(key, x)                    default: (), no parameters
    y       = layer.predict(params, x)              default: forward(params, x)[0]
    dx      = layer.input_grad(params, cache, g)    default: backward(params, cache, g)[0]
    dparams = layer.grads(params, cache, g)         default: backward(params, cache, g)[1]
    params  = layer.advance(params, cache)          default: params unchanged

These seven functions are the whole protocol. In each of them

    params   is what `forward` was given: a frozen record, or a tuple of records; () for none
    x        is a floating tensor, or a tuple of inputs
    y        is the output
    cache    is what `forward` returned beside y: all that `backward` needs
    g        is dL/dy, of y's shape, dtype and device
    dx       is dL/dx, and mirrors x: None for an input that has no gradient
    dparams  is dL/dparams, and mirrors params: a `State` is returned unchanged

Nothing that comes in, goes out or is cached is changed in place. A wrong argument raises
`LayerError`, which names the layer, what it expected and what it was given.

A `Layer` is a frozen record of these functions. It holds no parameters and remembers nothing:
the caller owns the cache that `forward` returns, and gives it to `backward`.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any, NoReturn, Protocol

import attrs

from lincoln_fn.core import signatures
from lincoln_fn.core.keys import Key
from lincoln_fn.core.record import shown
from lincoln_fn.core.signatures import SOURCES, as_init, both, derived, no_params, unbound
from lincoln_fn.core.spec import Made, constructor_of, with_spec
from lincoln_fn.core.values import Arrays, Cache, Params
from lincoln_fn.errors import later
from lincoln_fn.errors.arguments import check_argument
from lincoln_fn.errors.errors import LayerError


class Composed(Protocol):
    """What a layer reads of how it is made of its parts: a `lincoln_fn.walk.Composition`."""

    @property
    def label(self) -> str:
        """The combinator's name."""

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The layers that it is made of."""

    @property
    def call(self) -> Callable[[tuple[Layer, ...]], str]:
        """Write the code that makes the composition of some parts."""

    def initialise(self, key: Key, x: Arrays) -> Params:
        """Make the parts' params."""

    # Any: arguments of `lf.walk.composition`, by name.
    def rebuild(self, parts: tuple[Layer, ...], **changes: Any) -> Layer:
        """Make the same composition of other parts."""


@attrs.frozen(eq=False, repr=False)
class Layer(Made):
    """A layer, as the pure functions that make it.

    Args:
        name: the code that makes the layer, such as "dense(500)"; its repr.
        forward: (params, x) -> (y, cache).
        backward: (params, cache, g) -> (dx, dparams).
        init: (key, x) -> params; only the shape, dtype and device of x matter.
        predict: (params, x) -> y, without a cache: the layer as it is used after training.
        input_grad: (params, cache, g) -> dx, if dparams is not needed.
        grads: (params, cache, g) -> dparams, if dx is not needed.
        advance: (params, cache) -> params with the next running statistics or key.
        composition: how a layer made of layers connects its parts; None for a single layer.
            `lincoln_fn.walk.composition` makes it.

    `spec` is the constructor that was called, and its arguments; None for a layer made by hand.

    Example:
        >>> double = Layer(
        ...     "double()",
        ...     forward=lambda params, x: (2 * x, None),
        ...     backward=lambda params, cache, g: (2 * g, ()),
        ... )
        >>> double, double.predict((), 3)
        (double(), 6)
    """

    name: str
    forward: Callable[[Params, Arrays], tuple[Arrays, Cache]]
    backward: Callable[[Params, Cache, Arrays], tuple[Arrays, Params]]
    init: Callable[[Key, Arrays], Params] = attrs.field(default=no_params, converter=as_init)
    predict: Callable[[Params, Arrays], Arrays] = attrs.Factory(
        lambda layer: partial(derived, "predict", layer.forward), takes_self=True
    )
    input_grad: Callable[[Params, Cache, Arrays], Arrays] = attrs.Factory(
        lambda layer: partial(derived, "input_grad", layer.backward), takes_self=True
    )
    grads: Callable[[Params, Cache, Arrays], Params] = attrs.Factory(
        lambda layer: partial(derived, "grads", layer.backward), takes_self=True
    )
    advance: Callable[[Params, Cache], Params] = signatures.unchanged
    composition: Composed | None = None

    @property
    def parts(self) -> tuple[Layer, ...]:
        """The layers that a composition is made of; () for a single layer."""
        return self.composition.parts if self.composition else ()

    def rebuild(self, parts: tuple[Layer, ...], **changes: Any) -> Layer:  # Any: as below
        """Make the same composition of other parts; its own name or `init` stays.

        Args:
            parts: one for each of the old ones.
            **changes: arguments of `lf.walk.composition` that change, such as `back`.

        Example:
            >>> lf.serial(lf.dense(3), lf.relu()).rebuild((lf.dense(3), lf.tanh()))
            serial(dense(3), tanh())
        """
        assert self.composition is not None, "a single layer has no parts"
        made = self.composition.rebuild(parts, **changes)
        is_named = self.name != self.composition.call(self.parts)
        # A name of one's own says nothing of the parts, and another constructor's spec does.
        spec = self.spec if constructor_of(self) is not constructor_of(made) else made.spec
        own_name = {"name": self.name, "spec": spec} if is_named else {}
        is_own = unbound(self.init) != self.composition.initialise
        own_init = {"init": self.init} if is_own else {}
        return made.replace(**own_name, **own_init) if own_name or own_init else made

    def __call__(self, *arguments: object, **options: object) -> NoReturn:
        """Refuse the call of a torch module: here, the params are an argument."""
        where = self.composition.label if self.composition else self.name
        call = "y = net.predict(params, x), or y, cache = net.forward(params, x) to train"
        raise LayerError(where, f"expected no call of the layer itself; write {call}")

    def __getitem__(self, index: object) -> NoReturn:
        raise TypeError(f"a Layer has no entries; write net.parts[{index!r}]")

    if not TYPE_CHECKING:  # to a type checker, an unknown name is an error already

        def __getattr__(self, name):
            raise later.no_attribute("Layer", name)

    def _repr_html_(self) -> str:
        return shown(self)

    def replace(self, **changes: Any) -> Layer:  # Any: any field's value
        """Make the same layer with other functions.

        A new `forward` resets `predict` to its default, and a new `backward` resets `grads` and
        `input_grad`, unless they are given too. If only `grads` or `input_grad` is new, `backward`
        becomes the pair of both. If any function of a composition except `init` is replaced, the
        result is a single layer: no walk reaches its parts. With another function than `init`, the
        layer is not what its constructor makes: it has no `spec`, unless one is given. What is
        declared of a function goes with the function.

        Example:
            >>> same = Layer("same()", lambda params, x: (x, None), lambda params, c, g: (g, ()))
            >>> same.replace(backward=lambda params, cache, g: (-g, ())).backward((), None, 2)
            (-2, ())
        """
        kept = {field.name: getattr(self, field.name) for field in attrs.fields(Layer)}
        own, spec = kept.pop("spec"), changes.pop("spec", None)
        if not changes.keys() <= {"name", "init", "composition"}:
            kept["composition"] = own = None
        if "forward" in changes:
            del kept["predict"]
        if "backward" in changes:
            del kept["grads"], kept["input_grad"]
        elif "grads" in changes or "input_grad" in changes:
            halves = {**kept, **changes}
            kept["backward"] = partial(both, halves["input_grad"], halves["grads"])
        return with_spec(Layer(**{**kept, **changes}), spec or own)


def map_layers(f: Callable[[Layer], Layer], net: Layer) -> Layer:
    """Replace every single layer of a composition, however deeply nested.

    Args:
        f: takes a layer without parts and returns its replacement.

    Example:
        >>> map_layers(lambda layer: layer.replace(name="other()"), Layer("one()", print, print))
        other()
    """
    check_argument("map_layers", "net", Layer, net, ("f", "net"))
    if net.composition is None:
        return f(net)
    return net.rebuild(tuple(map_layers(f, part) for part in net.parts))


def has_no_params(layer: Layer) -> bool:
    """Return whether a layer's `init` is the default, which makes no params."""
    return unbound(layer.init) is no_params


def file_of_forward(layer: Layer) -> ModuleType | None:
    """Return the module of a layer's `forward`, also where its backward is another."""
    return sys.modules.get(getattr(unbound(layer.forward), "__module__", ""))


def is_derived(layer: Layer, name: str) -> bool:
    """Return whether a layer's function is the default, which calls another of its functions."""
    function, default = getattr(layer, name), (derived, name, getattr(layer, SOURCES[name][0]))
    return isinstance(function, partial) and (function.func, *function.args) == default


def is_ours(function: Callable[..., Any]) -> bool:  # Any: of any function
    """Return whether a function is the library's, and not a user's own."""
    return str(getattr(unbound(function), "__module__", "")).startswith("lincoln_fn.")
