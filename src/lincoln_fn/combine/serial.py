"""Layers one after the other."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.combine.parts import (
    check_entries,
    is_still,
    is_trained,
    moved_along,
    placed_parts,
    taken,
)
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged

T = TypeVar("T")


def serial(*layers: Layer) -> Layer:
    """Compose layers one after the other: y = layer_n(... layer_1(x)).

    Derivation. With x_i = layer_i(x_{i-1}), the chain rule gives each layer's g as its successor's
    dx: g_{i-1} = dx_i, from the last layer back to the first. `grads` starts from the same end and
    stops at the first layer that has anything to train, whose dx nobody needs.

    Args:
        *layers: the parts, first to last.

    Returns:
        The layer. Its params, caches and dparams are tuples with one entry a part.

    Raises:
        LayerError: from its functions, if a part raises one, or if params or cache have another
            number of entries.

    Example:
        >>> lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10), lf.log_softmax())
        serial(dense(500), sigmoid(), dense(10), log_softmax())
    """
    return in_turn("serial", layers).replace(
        name=f"serial({', '.join(layer.name for layer in layers)})",
        parts=layers,
        rebuild=_serial_of,
    )


def is_serial(net: Layer) -> bool:
    """Tell whether a composition is a `serial`.

    Args:
        net: any layer.

    Returns:
        True if its parts run one after the other, and it was made by `serial`.

    Example:
        >>> is_serial(lf.serial(lf.relu())), is_serial(lf.residual(lf.relu()))
        (True, False)
    """
    return net.rebuild is _serial_of


def _serial_of(layers: tuple[Layer, ...]) -> Layer:
    return serial(*layers)


def in_turn(combinator: str, layers: tuple[Layer, ...]) -> Layer:
    """Make the functions of `serial`, with errors that speak of another combinator.

    Args:
        combinator: the name that the errors give to the composition.
        layers: the parts.

    Returns:
        The layer.

    Example:
        >>> in_turn("mine", (lf.relu(), lf.tanh())).predict(((), ()), torch.tensor([-1.0]))
        tensor([0.])
    """
    parts = placed_parts(combinator, layers)
    count = len(parts)

    def init(key: Key, x: Arrays) -> Params:
        params = []
        for i, part in enumerate(parts):
            params.append(part.init(key.fold_in(i), x))
            x = part.predict(_on_meta(params[i]), _on_meta(x))
        return tuple(params)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        check_entries(combinator, "params", params, count)
        caches = []
        for part, part_params in zip(parts, params, strict=True):
            x, cache = part.forward(part_params, x)
            caches.append(cache)
        return x, tuple(caches)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        check_backward(params, cache)
        dparams = list(params)
        for i in range(count - 1, -1, -1):
            g, dparams[i] = parts[i].backward(params[i], taken(parts[i], cache, i), g)
        return g, tuple(dparams)

    def predict(params: Params, x: Arrays) -> Arrays:
        check_entries(combinator, "params", params, count)
        for part, part_params in zip(parts, params, strict=True):
            x = part.predict(part_params, x)
        return x

    def input_grad(params: Params, cache: Cache, g: Arrays) -> Arrays:
        check_backward(params, cache)
        for i in range(count - 1, -1, -1):
            g = parts[i].input_grad(params[i], taken(parts[i], cache, i), g)
        return g

    def grads(params: Params, cache: Cache, g: Arrays) -> Params:
        check_backward(params, cache)
        dparams = list(params)
        first = first_trained(params)
        for i in range(count - 1, first, -1):
            g, dparams[i] = parts[i].backward(params[i], taken(parts[i], cache, i), g)
        if first < count:
            last = parts[first]
            dparams[first] = last.grads(params[first], taken(last, cache, first), g)
        return tuple(dparams)

    def descend(
        params: Params, cache: Cache, g: Arrays, rate: float, *, donate: bool = False
    ) -> Params:
        check_backward(params, cache)
        moved = list(params)
        first = first_trained(params)
        allowed = {"donate": True} if donate else {}
        for i in range(count - 1, first - 1, -1):
            part, part_params, part_g = parts[i], params[i], g
            part_cache = taken(part, cache, i)
            # Of a composition, the two halves would go the same way twice.
            if part.descend is not None and (i == first or not part.empties_cache):
                g = part.input_grad(part_params, part_cache, g) if i > first else g
                moved[i] = part.descend(part_params, part_cache, part_g, rate, **allowed)
                continue
            if i > first:
                g, dparams = part.backward(part_params, part_cache, g)
            else:
                dparams = part.grads(part_params, part_cache, g)
            if is_trained(part_params):
                where = f"{combinator}[{i}] {layers[i].name}"
                moved[i] = moved_along(where, part_params, dparams, rate, donate)
        return tuple(moved)

    def first_trained(params: Params) -> int:
        return next((i for i in range(count) if is_trained(params[i])), count)

    def advance(params: Params, cache: Cache) -> Params:
        check_backward(params, cache)
        return tuple(part.advance(p, c) for part, p, c in zip(parts, params, cache, strict=True))

    def check_backward(params: Params, cache: Cache) -> None:
        check_entries(combinator, "params", params, count)
        check_entries(combinator, "the cache", cache, count)

    return Layer(
        combinator,
        forward,
        backward,
        init,
        predict,
        input_grad,
        grads,
        unchanged if is_still(layers) else advance,
        descend if any(layer.descend for layer in layers) else None,
        empties_cache=True,
    )


def repeat(n: int, layer: Layer) -> Layer:
    """Compose n layers of one kind, one after the other, each with parameters of its own.

    Args:
        n: how many, at least 1.
        layer: the kind.

    Returns:
        The layer: `serial` of n times the same.

    Raises:
        ValueError: if n is below 1.

    Example:
        >>> repeat(3, lf.serial(lf.dense(5), lf.relu()))
        repeat(3, serial(dense(5), relu()))
    """
    if n < 1:
        raise ValueError(f"repeat: expected n of at least 1, got {n}")
    return _repeated((layer,) * n)


def _repeated(layers: tuple[Layer, ...]) -> Layer:
    """Make `repeat` of layers that were one kind; rebuilt of several kinds, it is a `serial`."""
    if len({layer.name for layer in layers}) > 1:
        return serial(*layers)
    name = f"repeat({len(layers)}, {layers[0].name})"
    return serial(*layers).replace(name=name, rebuild=_repeated)


def _on_meta(arrays: T) -> T:
    # What is no tensor is left for the layer to refuse.
    def moved(leaf: object) -> object:
        return leaf.to("meta") if isinstance(leaf, Tensor) else leaf

    return tree.map(moved, arrays, states=True)
