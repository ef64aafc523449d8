"""Layers one after the other: y = layer_n(... layer_1(x)).

Derivation. With x_i the output of layer i, the chain rule gives each layer's g as its successor's
dx, from the last layer back to the first:

    x_i = "layer"_i(x_(i-1))
    g_(i-1) = dx_i
"""

from __future__ import annotations

from lincoln_fn.core import Arrays, Cache, Layer, Params, PositiveInt, Spec, call_of, checked
from lincoln_fn.walk import VisitBack, VisitThere, check_entries, composition, is_trained
from lincoln_fn.walk.internal import Record, composition_of


def there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's output to the next."""
    check_entries(visit.label, "params", params, len(visit.parts))
    records = []
    for i, entry in enumerate(params):
        x, record = visit(i, entry, x)
        records.append(record)
    return x, tuple(records)


def back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's dx to the one before it."""
    count = len(visit.parts)
    check_entries(visit.label, "params", params, count)
    check_entries(visit.label, "the cache", cache, count)
    records = [None] * count
    for i in reversed(range(count)):
        g, records[i] = visit(i, params[i], cache[i], g)
    return g, tuple(records)


def needs_dx(i: int, params: Params) -> bool:
    """Return whether a layer before layer i is trained."""
    return any(is_trained(params[j]) for j in range(i))


@checked
def serial(*layers: Layer) -> Layer:
    """Compose layers one after the other: y = layer_n(... layer_1(x)).

    Params, caches and dparams are tuples with one entry per part. `grads` stops at the first
    trained layer, whose dx is not needed.

    Example:
        >>> lf.serial(lf.dense(500), lf.sigmoid(), lf.dense(10), lf.log_softmax())
        serial(dense(500), sigmoid(), dense(10), log_softmax())
    """
    return composition(serial, layers, there, back, needs_dx=needs_dx)


def is_serial(layer: Layer) -> bool:
    """Return whether a layer runs its parts one after the other, each with an entry of params."""
    made = composition_of(layer)
    return made is not None and made.there is there and not made.taps


@checked
def repeat(n: PositiveInt, layer: Layer) -> Layer:
    """Repeat a layer n times in a row, each time with its own parameters.

    Example:
        >>> repeat(3, lf.serial(lf.dense(5), lf.relu()))
        repeat(3, serial(dense(5), relu()))
    """
    return composition(serial, (layer,) * n, there, back, needs_dx=needs_dx, call=_repeat_call)


def _repeat_call(layers: tuple[Layer, ...]) -> Spec:
    if len({layer.name for layer in layers}) > 1:
        return call_of(serial, *layers)
    return call_of(repeat, len(layers), layers[0])
