"""Layers made of layers.

Each combinator returns a `Layer` whose parameters, caches and gradients are tuples over its parts,
and hands on all six functions. An error in a part says where it stands: "serial[2] dense(10): ...".
"""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import TypeVar

from torch import Tensor
from typing_extensions import ParamSpec

from lincoln_fn import tree
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError, placed

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


def serial(*layers: Layer) -> Layer:
    """Compose layers one after the other: y = layer_n(... layer_1(x)).

    Derivation. With x_i = layer_i(x_{i-1}), the chain rule gives each layer's g as its successor's
    dx: g_{i-1} = dx_i, from the last layer back to the first. `grads` starts from the same end and
    stops at the first layer that has parameters, whose dx nobody needs.

    Args:
        *layers: the parts, first to last.

    Returns:
        The layer. Its params, caches and dparams are tuples with one entry a part.

    Raises:
        LayerError: from its functions, if a part raises one, or if params or cache have another
            number of parts.

    Example:
        >>> import lincoln_fn as lf
        >>> lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10), lf.log_softmax())
        serial(dense(500), sigmoid(), dense(10), log_softmax())
    """
    name = f"serial({', '.join(layer.name for layer in layers)})"
    parts = tuple(_at(f"serial[{i}]", layer) for i, layer in enumerate(layers))

    def init(key: Key, x: Arrays) -> Params:
        key = key.near(next(iter(tree.leaves(x))))
        params = []
        for i, part in enumerate(parts):
            params.append(part.init(key.fold_in(i), x))
            x = part.predict(_on_meta(params[i]), _on_meta(x))
        return tuple(params)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        _check_entries("params", params, parts)
        caches = []
        for part, part_params in zip(parts, params, strict=True):
            x, cache = part.forward(part_params, x)
            caches.append(cache)
        return x, tuple(caches)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        _check_entries("params", params, parts)
        _check_entries("the cache", cache, parts)
        dparams = []
        for i in range(len(parts) - 1, -1, -1):
            g, part_dparams = parts[i].backward(params[i], cache[i], g)
            dparams.append(part_dparams)
        return g, tuple(dparams[::-1])

    def grads(params: Params, cache: Cache, g: Arrays) -> Params:
        _check_entries("params", params, parts)
        _check_entries("the cache", cache, parts)
        dparams = list(params)
        for i in range(len(parts) - 1, -1, -1):
            if all(_is_empty(earlier) for earlier in params[:i]):
                dparams[i] = parts[i].grads(params[i], cache[i], g)
                break
            g, dparams[i] = parts[i].backward(params[i], cache[i], g)
        return tuple(dparams)

    def predict(params: Params, x: Arrays) -> Arrays:
        _check_entries("params", params, parts)
        for part, part_params in zip(parts, params, strict=True):
            x = part.predict(part_params, x)
        return x

    def advance(params: Params, cache: Cache) -> Params:
        _check_entries("params", params, parts)
        _check_entries("the cache", cache, parts)
        return tuple(part.advance(p, c) for part, p, c in zip(parts, params, cache, strict=True))

    still = all(layer.advance is unchanged for layer in layers)
    return Layer(
        name, forward, backward, init, predict, grads,
        advance=unchanged if still else advance,
        parts=layers,
        rebuild=lambda new_parts: serial(*new_parts),
    )  # fmt: skip


def _at(position: str, layer: Layer) -> Layer:
    """Give a layer whose errors say where in a composition it stands."""

    def guarded(doing: str, function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*arguments: P.args, **options: P.kwargs) -> R:
            try:
                return function(*arguments, **options)
            except LayerError as error:
                raise placed(error, position, layer.name) from error
            except (RuntimeError, TypeError, ValueError, LookupError, AttributeError) as error:
                given = brief(arguments[-1])
                problem = f"{doing} raised {type(error).__name__} on {given}: {error}"
                raise LayerError(f"{position} {layer.name}", problem) from error

        return call

    return layer.replace(
        forward=guarded("forward", layer.forward),
        backward=guarded("backward", layer.backward),
        init=guarded("init", layer.init),
        predict=guarded("predict", layer.predict),
        grads=guarded("grads", layer.grads),
        advance=guarded("advance", layer.advance),
    )


def _check_entries(what: str, given: object, parts: tuple[Layer, ...]) -> None:
    if type(given) is not tuple or len(given) != len(parts):
        problem = (
            f"expected {what} with one entry for each of {len(parts)} layers, got {brief(given)}"
        )
        raise LayerError(f"serial of {len(parts)}", problem)


def _is_empty(params: Params) -> bool:
    return type(params) is tuple and not params


def _on_meta(arrays: T) -> T:
    def moved(leaf: Tensor) -> Tensor:
        return leaf.to("meta")

    return tree.map(moved, arrays, states=True)
