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

Cache: the layer's own, and its derivative along v. torch's forward mode computes the derivatives,
and no backward is recorded. It can be nested, so `jvp(jvp(layer))` has second derivatives.

Source: Pearlmutter, "Fast Exact Multiplication by the Hessian", 1994.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import TypeAlias, TypeVar

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Layer, Params, bare, constructor, record, tree
from lincoln_fn.core import Cache as AnyCache
from lincoln_fn.runtime import load_forward_mode
from lincoln_fn.walk import check_entries

T = TypeVar("T")
Y = TypeVar("Y")
Pair: TypeAlias = tuple[Arrays, Arrays]


@record
class Cache:
    value: AnyCache
    slope: AnyCache


def init(key: Key, x: Pair, *, layer: Layer) -> Params:
    """Draw the layer's params."""
    return layer.init(key, _pair(x)[0])


def forward(params: Params, x: Pair, *, layer: Layer) -> tuple[Pair, Cache]:
    """Compute the layer's y and cache along x + t v."""
    (y, value), (slope_of_y, slope) = along(partial(layer.forward, params), *_pair(x))
    return (y, slope_of_y), Cache(value, slope)


def predict(params: Params, x: Pair, *, layer: Layer) -> Pair:
    """Compute what the layer predicts along x + t v."""
    return along(partial(layer.predict, params), *_pair(x))


def backward(params: Params, cache: Cache, g: Pair, *, layer: Layer) -> tuple[Pair, Params]:
    """Compute B along x + t v and g_y' + t g_y."""
    (dv, _), (dx, dparams) = _back(layer.backward, params, cache, g)
    return (dx, dv), _with_states(dparams, params)


def input_grad(params: Params, cache: Cache, g: Pair, *, layer: Layer) -> Pair:
    """Compute dx and dv alone."""
    dv, dx = _back(layer.input_grad, params, cache, g)
    return dx, dv


def grads(params: Params, cache: Cache, g: Pair, *, layer: Layer) -> Params:
    """Compute dparams alone."""
    return _with_states(_back(layer.grads, params, cache, g)[1], params)


def advance(params: Params, cache: Cache, *, layer: Layer) -> Params:
    """Advance the layer's state."""
    return layer.advance(params, cache.value)


def _back(of: Callable[..., Y], params: Params, cache: Cache, g: Pair) -> tuple[Y, Y]:
    """Compute a function of the cache and g, and its derivative along x + t v and g_y' + t g_y."""
    check_entries("jvp", "g", g, 2)
    at, slopes = (cache.value, g[1]), (cache.slope, g[0])
    return along(lambda given: of(params, *given), at, slopes)


def _with_states(dparams: Params, params: Params) -> Params:
    """Put the states, which have no derivative, in place of their slopes."""
    return tree.map(lambda _, slope: slope, params, dparams)


def _pair(given: Pair) -> Pair:
    check_entries("jvp", "x", given, 2)
    x, v = given
    leaves = tree.leaves(x)
    if not leaves or not all(map(core.is_floating, leaves)) or not core.mirrors(x, v):
        expected = f"(x, v) of floats, with v like x, {core.format_briefly(x)}"
        raise core.unexpected("jvp", expected, core.format_briefly(v))
    return x, v


def along(f: Callable[[T], Y], at: T, slopes: T) -> tuple[Y, Y]:
    """Compute f(at) and its derivative, where the floating tensors of `at` have these slopes."""
    result: list[Y] = []

    def of_floats(*floats: Tensor) -> tuple[Tensor, ...]:
        moving = iter(floats)
        result.append(
            f(tree.map(lambda t: next(moving) if core.is_floating(t) else t, at, states=True))
        )
        # torch's jvp refuses a function that returns nothing, such as the gradient of no params.
        return floats[0], *core.tensors_in(result)

    # It also refuses a tensor of which several numbers have one place in memory, as a stand-in.
    floats = (filter(core.is_floating, tree.leaves(each, states=True)) for each in (at, slopes))
    moving = (tuple(t.clone() if 0 in t.stride() else t for t in each) for each in floats)
    try:
        value, slope = (iter(each[1:]) for each in torch.func.jvp(of_floats, *moving))
    except RuntimeError as error:
        if "Nested forward mode" not in str(error):
            raise
        problem = "cannot be differentiated by torch's dual tensors; use torch.func.jvp"
        raise core.LayerError("jvp", problem) from error

    def rebuilt(each: Iterator[Tensor]) -> Y:
        return tree.map(lambda t: next(each) if isinstance(t, Tensor) else t, *result, states=True)

    return rebuilt(value), rebuilt(slope)


@constructor(kind="other")
def jvp(layer: Layer) -> Layer:
    """Make the derivative of a layer along a direction: (x, v) -> (f(x), J v), with J = df / dx.

    v mirrors x. The backward is right for x, v and the params, which are the layer's own. So an
    equation in the derivatives of a network is a composition. `jvp(jvp(layer))` maps ((x, v),
    (w, u)) to ((f, J v), (J w, d(J v))): ((f, f'), (f', f'')) for one number, v = w = 1 and u = 0.

    Args:
        layer: any layer or network of floating inputs.

    Example:
        >>> cube, x, one, zero = lf.power(3), *torch.tensor([2.0, 1.0, 0.0])
        >>> jvp(cube).predict((), (x, one))
        (tensor(8.), tensor(12.))
        >>> jvp(jvp(cube)).predict((), ((x, one), (one, zero)))[1]
        (tensor(12.), tensor(12.))
    """
    load_forward_mode()
    moves = {} if layer.advance is core.unchanged else {"advance": advance}
    return bare(Layer, forward, backward, init, predict, input_grad, grads, **moves)


def directed(layer: Layer | None) -> Layer | None:
    """Return the layer that `jvp` was given; None for any other layer."""
    spec = layer.spec if layer is not None else None
    return spec["layer"] if spec is not None and spec.of is jvp else None
