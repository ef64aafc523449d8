"""Checks of the functions beside forward and backward, and of a composition's loops.

`backward` is one walk. A step keeps only the caches that it reads, and others record the
cotangents first. Each gives the number of `backward`. It need not give the same bits, since a
layer's `grads` may compute that number in another way than its `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Final, NamedTuple

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.testing.diagnosis import GradientError, close
from lincoln_fn.testing.purity import check_same, check_untouched, snapshot
from lincoln_fn.testing.sample import Sample
from lincoln_fn.walk.sites import cotangents, grads_at
from lincoln_fn.walk.walks import forward_to_train, gradients


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


_KEPT: Final = "the cache of a part from which nothing is needed is None in a step"
_RECORDED: Final = (
    "`back` returns the records of its parts as visit returned them, and `gather` turns each into "
    "a gradient by visit(i, params, record)"
)


def check_walks(at: Sample) -> None:
    """Check a composition in the walk of a training step, and in that of recorded cotangents."""
    layer, params, cache, g = at.layer, at.params, at.cache, at.g
    if layer.composition is None:
        return

    def recorded() -> tuple[Arrays, Params]:
        dx, sites = cotangents(layer, params, cache, g)
        return dx, grads_at(layer, params, sites)

    def stepped() -> Params:
        return gradients(layer, params, forward_to_train(layer, params, at.x)[1], g)

    walks: tuple[tuple[str, Callable[[], Arrays], Arrays, str], ...] = (
        ("the walk of a step", stepped, at.dparams, _KEPT),
        ("lf.cotangents with lf.grads_at", recorded, (at.dx, at.dparams), _RECORDED),
    )
    for walk, run, expected, mend in walks:
        # What `precision` runs in float64 does so here, too.
        with getattr(layer.grads, "doubled", nullcontext()):
            try:
                given = run()
            except Exception as error:
                problem = f"{walk} raised {type(error).__name__}, and backward did not: {error}"
                raise GradientError(f"{layer.name}: {problem}; {mend}") from error
        if not close_trees(given, expected):
            raise GradientError(f"{layer.name}: {walk} differs from backward; {mend}")
