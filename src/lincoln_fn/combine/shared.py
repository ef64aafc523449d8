"""One layer for several inputs: y_i = layer(x_i).

Derivation. dx_i is the layer's backward of g_i. The parameters enter every y_i, so

    "dparams" = sum_i "dparams"_i

A state advances from each input to the next, so dropout draws a different mask for each.
"""

from __future__ import annotations

from functools import partial, reduce

import torch

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, Params, checked, tree
from lincoln_fn.walk import VisitBack, VisitThere, check_entries
from lincoln_fn.walk.internal import Record, VisitRecord, around


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Record]:
    _check_inputs(x)
    ys, records = [], []
    for x_i in x:
        y, record = visit(0, params, x_i)
        params = visit.advance(0, params, record)
        ys.append(y)
        records.append(record)
    return tuple(ys), tuple(records)


def _back(visit: VisitBack, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Record]:
    check_entries("shared", "g", g, len(cache))
    dxs, records = [], []
    for cache_i, g_i in zip(cache, g, strict=True):
        dx, record = visit(0, params, cache_i, g_i)
        params = visit.advance(0, params, cache_i)
        dxs.append(dx)
        records.append(record)
    return tuple(dxs), tuple(records)


def _gather(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Add up the gradients of all uses; their states are those that the first one had."""
    return reduce(partial(tree.map, torch.add), [visit(0, params, record) for record in records])


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    _check_inputs(x)
    return parts[0].init(key, x[0])


def _advance(visit: VisitThere, params: Params, cache: Cache) -> Params:
    return reduce(partial(visit.advance, 0), cache, params)


def _check_inputs(x: object) -> None:
    if type(x) is not tuple or not x:
        raise core.unexpected("shared", "x to be a tuple of inputs", core.describe_non_tuple(x))


@checked
def shared(layer: Layer) -> Layer:
    """Use one layer, with one set of parameters, on each entry of a tuple: y_i = layer(x_i).

    x, y, caches and dx are tuples with one entry per input; params are the layer's own.

    Example:
        >>> shared(lf.relu()).predict((), (torch.tensor([-1.0]), torch.tensor([2.0])))
        (tensor([0.]), tensor([2.]))
    """
    return around(shared, layer, _there, _back, gather=_gather, init=_init, advance=_advance)
