"""The layer protocol.

    y, cache    = layer.forward(params, x)           pure: same params and x, same y
    dx, dparams = layer.backward(params, cache, g)   g is dL/dy; each result mirrors its argument

    params  = layer.init(key, x)                    default: (), no parameters
    y       = layer.predict(params, x)              default: forward(params, x)[0]
    dx      = layer.input_grad(params, cache, g)    default: backward(params, cache, g)[0]
    dparams = layer.grads(params, cache, g)         default: backward(params, cache, g)[1]
    params  = layer.advance(params, cache)          default: params unchanged
    params  = layer.descend(params, cache, g, rate) default: None, there is no faster way

`params` is in each of them what `forward` was given.

A `Layer` is a frozen record of these functions. It holds no parameters and remembers nothing:
whoever calls `forward` keeps the cache and hands it to `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeAlias

import attrs

from lincoln_fn.keys import Key

# Any: each layer has its own records, and a composition holds tuples of them; Python's types have
# no name for "what this layer's forward returned".
Params: TypeAlias = Any
Cache: TypeAlias = Any
# Any: one tensor, or a tuple of them where a layer takes several inputs.
Arrays: TypeAlias = Any


def no_params(key: Key, x: Arrays) -> Params:
    """Initialise a layer that has no parameters.

    Args:
        key: ignored.
        x: ignored.

    Returns:
        The empty tuple.

    Example:
        >>> no_params(Key(0), None)
        ()
    """
    return ()


def unchanged(params: Params, cache: Cache) -> Params:
    """Advance a layer that carries no state.

    Args:
        params: the parameters.
        cache: ignored.

    Returns:
        The same parameters.

    Example:
        >>> unchanged((1, 2), None)
        (1, 2)
    """
    return params


@attrs.frozen(eq=False, repr=False)
class Layer:
    """A layer, as the pure functions that make it.

    Args:
        name: the code that makes the layer, such as "dense(500)"; its repr.
        forward: (params, x) -> (y, cache).
        backward: (params, cache, g) -> (dx, dparams).
        init: (key, x) -> params, of x only shape, dtype and device counting.
        predict: (params, x) -> y, with no cache kept: the layer as it is used after training.
        input_grad: (params, cache, g) -> dx, where nobody needs dparams.
        grads: (params, cache, g) -> dparams, where nobody needs dx.
        advance: (params, cache) -> params with the next running statistics or key.
        descend: (params, cache, g, rate) -> params - rate dparams, where that takes less than
            making dparams first; None where it does not. With the keyword `donate=True` it may
            write over params, and returns tensors that share their memory.
        empties_cache: whether the functions that go backward also take a cache whose tuples are
            lists, for good: they let go of each part's as they go. `combine.parts.owned` makes it.
        parts: the layers that a composition is made of.
        rebuild: makes the same composition of other parts; None for a single layer.

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
    init: Callable[[Key, Arrays], Params] = no_params
    predict: Callable[[Params, Arrays], Arrays] = attrs.Factory(
        lambda layer: partial(_forward_output, layer.forward), takes_self=True
    )
    input_grad: Callable[[Params, Cache, Arrays], Arrays] = attrs.Factory(
        lambda layer: partial(_backward_dx, layer.backward), takes_self=True
    )
    grads: Callable[[Params, Cache, Arrays], Params] = attrs.Factory(
        lambda layer: partial(_backward_dparams, layer.backward), takes_self=True
    )
    advance: Callable[[Params, Cache], Params] = unchanged
    descend: Callable[..., Params] | None = None
    empties_cache: bool = False
    parts: tuple[Layer, ...] = ()
    rebuild: Callable[[tuple[Layer, ...]], Layer] | None = None

    def __repr__(self) -> str:
        return self.name

    def replace(self, **changes: Any) -> Layer:  # Any: any field's value
        """Make the same layer with other functions.

        A new `backward` brings its own default `grads`, `input_grad`, `descend` and
        `empties_cache`, and a new `forward` its own default `predict`, unless they are given too:
        the old ones belong to the old rule.

        Args:
            **changes: new values by field name.

        Returns:
            The new layer.

        Example:
            >>> same = Layer("same()", lambda params, x: (x, None), lambda params, c, g: (g, ()))
            >>> same.replace(backward=lambda params, cache, g: (-g, ())).backward((), None, 2)
            (-2, ())
        """
        kept = {field.name: getattr(self, field.name) for field in attrs.fields(Layer)}
        if "forward" in changes:
            del kept["predict"]
        if "backward" in changes:
            for name in ("grads", "input_grad", "descend", "empties_cache"):
                del kept[name]
        return Layer(**{**kept, **changes})


def _forward_output(
    forward: Callable[[Params, Arrays], tuple[Arrays, Cache]], params: Params, x: Arrays
) -> Arrays:
    return forward(params, x)[0]


def _backward_dx(
    backward: Callable[[Params, Cache, Arrays], tuple[Arrays, Params]],
    params: Params,
    cache: Cache,
    g: Arrays,
) -> Arrays:
    return backward(params, cache, g)[0]


def _backward_dparams(
    backward: Callable[[Params, Cache, Arrays], tuple[Arrays, Params]],
    params: Params,
    cache: Cache,
    g: Arrays,
) -> Params:
    return backward(params, cache, g)[1]


def is_derived(layer: Layer, name: str) -> bool:
    """Return whether a function of a layer is the default, derived from another of its functions.

    Args:
        layer: the layer.
        name: "predict", "input_grad" or "grads".

    Returns:
        False if the layer was given a function of its own.

    Example:
        >>> is_derived(lf.tanh(), "grads"), is_derived(lf.dense(3), "grads")
        (True, False)
    """
    function = getattr(layer, name)
    source, derived = {
        "predict": (layer.forward, _forward_output),
        "input_grad": (layer.backward, _backward_dx),
        "grads": (layer.backward, _backward_dparams),
    }[name]
    return isinstance(function, partial) and (function.func, *function.args) == (derived, source)


def map_layers(f: Callable[[Layer], Layer], net: Layer) -> Layer:
    """Replace every single layer of a composition, however deeply nested.

    Args:
        f: takes a layer without parts and returns the one to stand in its place.
        net: a layer.

    Returns:
        The same composition of the new layers.

    Example:
        >>> map_layers(lambda layer: layer.replace(name="other()"), Layer("one()", print, print))
        other()
    """
    if net.rebuild is None:
        return f(net)
    return net.rebuild(tuple(map_layers(f, part) for part in net.parts))


def call_repr(function: str, *arguments: object, **options: tuple[object, object]) -> str:
    """Write the call that makes a layer, loss or optimizer, without arguments at their defaults.

    Args:
        function: the name of the function called.
        *arguments: the positional arguments.
        **options: by name, the value and the default.

    Returns:
        The code.

    Example:
        >>> call_repr("dense", 500, bias=(True, True)), call_repr("softmax", dim=(1, -1))
        ('dense(500)', 'softmax(dim=1)')
    """
    shown = [repr(value) for value in arguments]
    shown += [
        f"{name}={value!r}"
        for name, (value, default) in options.items()
        if value is not default and value != default
    ]
    return f"{function}({', '.join(shown)})"
