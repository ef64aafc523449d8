"""Checks of the functions beside forward and backward."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree, unchanged
from lincoln_fn.testing.diagnosis import GradientError, close
from lincoln_fn.testing.purity import check_same, check_untouched, snapshot


class Results(NamedTuple):
    """The results of forward and backward, and the cotangent between them."""

    y: Arrays
    cache: Cache
    g: Arrays
    dx: Arrays
    dparams: Params


def check_other_functions(
    layer: Layer,
    params: Params,
    x: Arrays,
    results: Results,
    predict_is_forward: bool | None,
    *,
    once: bool = False,
) -> None:
    """Check predict, input_grad, grads and advance against forward and backward."""
    y, cache, g, dx, dparams = results
    before = [] if once else snapshot(params=params, x=x, g=g, cache=cache)

    def called(function: str, call: Callable[[], Arrays]) -> Arrays:
        first = call()
        if once:
            return first
        check_untouched(layer.name, function, before)
        check_same(layer.name, f"a second {function}", call(), first)
        return first

    alone = called("grads", lambda: layer.grads(params, cache, g))
    if not close_trees(alone, dparams):
        raise GradientError(f"{layer.name}: grads differs from backward(...)[1]")
    alone = called("input_grad", lambda: layer.input_grad(params, cache, g))
    if not close_trees(alone, dx):
        raise GradientError(f"{layer.name}: input_grad differs from backward(...)[0]")
    predicted = called("predict", lambda: layer.predict(params, x))
    expected = layer.advance is unchanged if predict_is_forward is None else predict_is_forward
    if expected and not close_trees(predicted, y):
        raise GradientError(f"{layer.name}: predict differs from forward")
    _check_advanced(layer, params, called("advance", lambda: layer.advance(params, cache)))


def _check_advanced(layer: Layer, params: Params, advanced: Params) -> None:
    if not tree.same_structure(advanced, params, states=True):
        raise GradientError(f"{layer.name}: advance returns params of another structure")
    if not close_trees(advanced, params):
        raise GradientError(f"{layer.name}: advance changes trained parameters")
    paths = tree.paths(params, states=True)
    leaves = (tree.leaves(both, states=True) for both in (params, advanced))
    for path, old, new in zip(paths, *leaves, strict=True):
        if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
            raise GradientError(f"{layer.name}: advance changes the shape or kind of {path}")


def close_trees(given: object, expected: object) -> bool:
    """Return whether two trees have one structure and, up to rounding, the same values."""
    return tree.same_structure(given, expected) and all(
        close(a, b) for a, b in zip(tree.leaves(given), tree.leaves(expected), strict=True)
    )
