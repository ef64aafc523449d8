"""Layers one after the other with a shared second input, and a layer that selects inputs.

Derivation of `with_context`. With x = (h_0, c) and h_i = layer_i((h_(i-1), c)), layer i turns g_i
into a pair of dh_(i-1) and dc_i. The context c enters every layer, so

    g_(i-1) = dh_(i-1)
    dc = sum_i dc_i
"""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from lincoln_fn.combine.serial import needs_dx
from lincoln_fn.core import tree
from lincoln_fn.core.constructors import bare, constructor
from lincoln_fn.core.declaration import declare
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.core.record import record
from lincoln_fn.core.sums import add_trees
from lincoln_fn.errors.arguments import NonNegativeInt, checked, require
from lincoln_fn.errors.descriptions import describe_non_tuple
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.errors.shapes import check_cache, check_params
from lincoln_fn.walk.composition import composition
from lincoln_fn.walk.init import on_meta, output_of
from lincoln_fn.walk.parts import check_entries
from lincoln_fn.walk.visits import Record, VisitBack, VisitThere


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's output to the next, together with the context."""
    h, *context = _with_context(x)
    check_entries(visit.label, "params", params, len(visit.parts))
    records = []
    for i, entry in enumerate(params):
        h, record = visit(i, entry, (h, *context))
        records.append(record)
    return h, tuple(records)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    """Pass each layer's dh to the one before it, and add up their gradients of the context."""
    count = len(visit.parts)
    check_entries(visit.label, "params", params, count)
    check_entries(visit.label, "the cache", cache, count)
    records = [None] * count
    dx = (g,)
    for i in reversed(range(count)):
        behind = dx
        dx, records[i] = visit(i, params[i], cache[i], behind and behind[0])
        if dx is not None and i < count - 1:
            dx = (dx[0], *add_trees(dx[1:], behind[1:]))
    return dx, tuple(records)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    made: list[Params] = []
    for i, part in enumerate(parts):
        x = _with_context(x)
        made.append(part.init(key.fold_in(i), x))
        if i < len(parts) - 1:
            x = on_meta(x)
            x = (output_of(part, made[i], x), *x[1:])
    return tuple(made)


def _with_context(x: Arrays) -> tuple[Arrays, ...]:
    if type(x) is not tuple or len(x) < 2:
        raise LayerError(
            "with_context", f"expected x to be (input, *context), got {describe_non_tuple(x)}"
        )
    return x


@checked
def with_context(*layers: Layer) -> Layer:
    """Compose layers one after the other, each with the same context as a second input.

    With x = (h_0, *c), where the context c is one entry or more, such as a mask or an encoder's
    output, h_i = layer_i((h_{i-1}, *c)) and y = h_n.

    Args:
        *layers: the parts, first to last, at least one. Each takes the whole tuple; put `select(0)`
            before a layer that takes no context.

    Returns:
        The layer. Its params, caches and dparams are tuples with one entry per part.

    Raises:
        ValueError: if there is no layer.
        LayerError: from its functions, if a part raises one, or x is not a tuple of two or more.

    Example:
        >>> net = with_context(lf.multiply(), lf.multiply())
        >>> net.predict(((), ()), (torch.tensor([2.0]), torch.tensor([3.0])))
        tensor([18.])
    """
    require(len(layers) > 0, "with_context", "at least one of layers", layers)
    return composition(
        with_context, layers, _there, _back, init=_init, needs_dx=needs_dx, reads_once=True
    )


@record
class Selected:
    """The entries of x."""

    x: tuple[Arrays, ...]


def _forward(
    params: Params, x: Arrays, *, name: str, entries: tuple[int, ...]
) -> tuple[Arrays, Selected]:
    """Select the entries of x."""
    check_params(name, params, None)
    if type(x) is not tuple or len(x) <= max(entries):
        wanted = f"a tuple of at least {max(entries) + 1}"
        raise LayerError(name, f"expected x to be {wanted}, got {describe_non_tuple(x)}")
    y = tuple(x[i] for i in entries)
    return y if len(y) > 1 else y[0], Selected(x)


declare(_forward, kind="moving")


def _backward(
    params: Params, cache: Selected, g: Arrays, *, name: str, entries: tuple[int, ...]
) -> tuple[Arrays, Params]:
    """Compute dx_j as the sum of g over the entries of y that are x_j."""
    check_cache(name, cache, Selected)
    gs = g if len(entries) > 1 else (g,)
    dx: list[Arrays] = [None] * len(cache.x)
    for i, g_i in zip(entries, gs, strict=True):
        dx[i] = g_i if dx[i] is None else add_trees(dx[i], g_i)
    for i in set(range(len(dx))).difference(entries):
        dx[i] = None if cache.x[i] is None else tree.map(_zero, cache.x[i])
    return tuple(dx), ()


def _zero(x: Tensor) -> Tensor | None:
    return torch.zeros_like(x) if x.is_floating_point() else None


@constructor
def select(*entries: NonNegativeInt) -> Layer:
    """Make a layer that selects entries of a tuple: y = x_0 for select(0), (x_0, x_2) for (0, 2).

    Derivation. Each entry of y is one x_j, so dx_j is the sum of g over the entries that are x_j.
    It is 0 if there is none (None, if x_j is not floating).

    Args:
        *entries: which to select, counted from 0; one may be selected several times.

    Returns:
        The layer. Its y is a tuple if several entries are selected.

    Raises:
        ValueError: if there is no entry, or one below 0.

    Example:
        >>> select(1, 0, 1).predict((), ("a", "b"))
        ('b', 'a', 'b')
    """
    require(len(entries) > 0, "select", "at least one of entries", entries)
    name = f"select({', '.join(map(str, entries))})"
    return bare(Layer, partial(_forward, name=name), partial(_backward, name=name))
