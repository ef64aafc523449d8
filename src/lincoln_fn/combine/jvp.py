"""The derivative of a layer along a direction: (x, v) -> (f(x), J v) with J = df / dx.

Derivation. Along x + t v, f has at t = 0 the value y and the slope

    y' = J v = (df)/(dt)

Let g_y and g_y' be the gradients of y and y', and B(x, g) = J^T g the layer's backward, for dx and
dparams alike. v enters y' alone, where its factor is J:

    dv = B(x, g_y')

x and params enter y, and y' through J. The order of two derivatives can be changed, so that

    d(g_y' * J v) = d/(dt) B(x + t v, g_y')
    "dx, dparams" = B(x, g_y) + d/(dt) B(x + t v, g_y') = d/(dt) B(x + t v, g_y' + t g_y)

at t = 0, since B is linear in g. So one derivative of the layer's own backward along a direction
gives all: its value is dv, and its slope dx and dparams.

Cache: the layer's own, and its slope. torch's forward mode computes the slopes; no backward is
recorded. It can be nested, and then `jvp(jvp(layer))` has second derivatives.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

import torch
from torch import Tensor

from lincoln_fn.core import (
    Arrays, Key, Layer, Params, check_cache, checked, format_briefly, record, tensors_in, tree,
    unexpected,
)
from lincoln_fn.walk import VisitBack, VisitThere, check_entries
from lincoln_fn.walk.internal import Record, VisitRecord, around

T = TypeVar("T")


@record
class Along:
    """What a visitor recorded at the layer, and its derivative along v."""

    value: Record
    slope: Record


def _there(visit: VisitThere, params: Params, x: Arrays) -> tuple[Arrays, Along]:
    """Run the layer along x + t v."""
    at, v = _pair(x)
    (y, value), (y_slope, slope) = _along(lambda at: visit(0, params, at), at, v)
    return (y, y_slope), Along(value, slope)


def _back(visit: VisitBack, params: Params, cache: Along, g: Arrays) -> tuple[Arrays, Record]:
    """Run the layer's backward along x + t v and g_y' + t g_y."""
    check_cache("jvp", cache, Along)
    check_entries("jvp", "g", g, 2)
    at, along = (cache.value, g[1]), (cache.slope, g[0])
    (dv, value), (dx, slope) = _along(lambda given: visit(0, params, *given), at, along)
    return None if dx is None else (dx, dv), Along(value, slope)


def _gather(visit: VisitRecord, params: Params, records: Along) -> Params:
    """Return the derivative of dparams; a state has none, and stays."""
    _, dparams = _along(lambda of: visit(0, params, of), records.value, records.slope)
    return tree.map(lambda _, slope: slope, params, dparams)


def _init(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    return parts[0].init(key, _pair(x)[0])


def _advance(visit: VisitThere, params: Params, cache: Along) -> Params:
    check_cache("jvp", cache, Along)
    return visit.advance(0, params, cache.value)


def _pair(given: Arrays) -> tuple[Arrays, Arrays]:
    """Check (x, v)."""
    check_entries("jvp", "x", given, 2)
    x, v = given
    kinds, of_v = ([(leaf.shape, leaf.dtype) for leaf in tree.leaves(each)] for each in given)
    if not tree.same_structure(x, v) or kinds != of_v or not all(map(_moves, tree.leaves(x))):
        expected = f"(x, v) of floats, with v like x, {format_briefly(x)}"
        raise unexpected("jvp", expected, format_briefly(v))
    return x, v


def _moves(leaf: object) -> bool:
    return isinstance(leaf, Tensor) and leaf.is_floating_point()


def _along(f: Callable[[T], Record], at: T, along: T) -> tuple[Record, Record]:
    """Compute f(at), and its derivative where the floating tensors move along others."""
    result: Record = None

    def of_floats(time: Tensor, *floats: Tensor) -> tuple[Tensor, ...]:
        nonlocal result
        moving = iter(floats)
        result = f(tree.map(lambda t: next(moving) if _moves(t) else t, at, states=True))
        return time, *tensors_in((result,))

    # torch's jvp refuses a function of nothing, or to nothing: so there is always the time. And it
    # refuses the tensors of which several numbers have one place in memory.
    time = torch.zeros(())
    floats = (filter(_moves, tree.leaves(each, states=True)) for each in (at, along))
    moving = ((time, *(t.clone() if 0 in t.stride() else t for t in each)) for each in floats)
    value, slope = (iter(each[1:]) for each in torch.func.jvp(of_floats, *moving))
    return tuple(
        tree.map(lambda t: next(each) if isinstance(t, Tensor) else t, result, states=True)
        for each in (value, slope)
    )


@checked
def jvp(layer: Layer) -> Layer:
    """Make the derivative of a layer along a direction: (x, v) -> (f(x), J v), with J = df / dx.

    v mirrors x. The backward is right for x, v and the params, which are the layer's own. So an
    equation in derivatives of a network is a composition. `jvp(jvp(layer))` maps ((x, v), (w, u))
    to ((f, J v), (J w, d(J v))): with w = v = 1 and u = 0, of one number, these are f, f' and f''.

    Source: Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994; Raissi, Perdikaris and
    Karniadakis, "Physics-Informed Neural Networks", 2019.

    Example:
        >>> cube, x, one, zero = lf.power(3), *torch.tensor([2.0, 1.0, 0.0])
        >>> jvp(cube).predict((), (x, one))
        (tensor(8.), tensor(12.))
        >>> jvp(jvp(cube)).predict((), ((x, one), (one, zero)))[1]
        (tensor(12.), tensor(12.))
    """
    return around(
        jvp, layer, _there, _back, gather=_gather, init=_init, advance=_advance, mask="lost"
    )
