"""Checks of the contract: nothing is changed in place, and all functions give the same numbers.

`backward` is one walk of a composition. A step keeps only the caches that it reads, and others
record the cotangents first. Each gives the number of `backward`. It need not give the same bits,
since a layer's `grads` may compute that number in another way than its `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Key, Layer, LayerError, Params, tree
from lincoln_fn.testing.diagnosis import GradientError, ImpureError, close_trees, not_finite, raised
from lincoln_fn.testing.sample import Sample, random_like, run_backward, run_forward, sample_of
from lincoln_fn.walk import cotangents, forward_to_train, gradients, grads_at
from lincoln_fn.walk.internal import InPlaceError, check_in_place

_KEPT: Final = "the cache of a part from which nothing is needed is None in a step"
_RECORDED: Final = (
    "`back` returns the records of its parts as visit returned them, and `gather` turns each into "
    "a gradient by visit(i, params, record)"
)


# Tensors, and copies of their values.
Snapshot: TypeAlias = list[tuple[core.Version, Tensor]]


def snapshot(**trees: object) -> Snapshot:
    """Record tensors as they are."""
    return [(noted, noted.tensor.clone()) for noted in core.versions(**trees)]


def check_untouched(name: str, function: str, before: Snapshot) -> None:
    """Check that recorded tensors were not changed in place, not even temporarily."""
    for noted, copy in before:
        if core.changed_since([noted]) or not _identical(noted.tensor, copy):
            raise ImpureError(f"{name}: {function} changed {noted.path} in place", function)


def check_same(name: str, what: str, given: object, expected: object) -> None:
    """Check that a repeated call gave the same result, bit for bit."""
    leaves = tree.leaves(given), tree.leaves(expected)
    if not (tree.same_structure(given, expected) and all(map(_identical, *leaves))):
        raise ImpureError(f"{name}: {what} gives something else", what.removeprefix("a second "))


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def pure(layer: Layer, params: Params, x: Arrays, key: Key) -> Sample:
    """Run forward and backward twice, and check that they change nothing and give the same."""
    before = snapshot(params=params, x=x)
    y, cache = run_forward(layer, params, x)
    check_untouched(layer.name, "forward", before)
    _check_range(layer.name, y)
    check_same(layer.name, "a second forward", run_forward(layer, params, x)[0], y)
    g = random_like(y, key)
    before = snapshot(params=params, x=x, cache=cache, g=g, y=y)
    gradients = run_backward(layer, params, cache, g)
    check_untouched(layer.name, "backward", before)
    _check_parts(layer, params, x, g)
    check_same(layer.name, "a second backward", _repeated(layer, params, cache, g), gradients)
    at = sample_of((layer, params, x), (y, cache, g), gradients)
    _check_kept(at)
    return at


def _repeated(layer: Layer, params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
    try:
        return run_backward(layer, params, cache, g)
    except GradientError as error:
        told = str(error).removeprefix(f"{layer.name}: ")
        sentence = f"{layer.name}: a second {told}: does backward change its cache?"
        raise ImpureError(sentence, "backward") from error


def _check_range(name: str, y: Arrays) -> None:
    """Raise an error for nan, and another if y is only too large to be a number."""
    if told := not_finite(y):
        if any(bool(leaf.isnan().any()) for leaf in tree.leaves(y)):
            raise GradientError(f"{name}: y {told}", "forward")
        raise OverflowError("y is infinite for these numbers: take smaller ones")


def _check_kept(at: Sample) -> None:
    """Check that backward finds all it needs in its cache, whatever forward has run since."""
    before = snapshot(cache=at.cache)
    _, smaller = at.rebuild([0.7 * array for array in at.arrays])
    try:
        at.layer.forward(at.params, smaller)
    except Exception:  # the layer may refuse another x in any way
        return
    check_untouched(at.layer.name, "a further forward", before)
    given = run_backward(at.layer, at.params, at.cache, at.g)
    try:
        check_same(at.layer.name, "backward", given, (at.dx, at.dparams))
    except ImpureError:
        told = "backward reads what forward kept outside of the cache"
        raise ImpureError(f"{at.layer.name}: {told}", "backward") from None


def _check_parts(layer: Layer, params: Params, x: Arrays, g: Arrays) -> None:
    """Check that no part of a composition changes in place what another part holds."""
    if layer.composition is None:
        return
    try:
        check_in_place(layer, params, x, lambda y: g)
    except InPlaceError as error:
        raise ImpureError(f"{layer.name}: {error}", "forward") from None
    except LayerError:  # of a loop that these walks cannot run: `check_walks` says so
        return


def check_other_functions(at: Sample, predict_is_forward: bool | None) -> None:
    """Check predict, input_grad, grads and advance against forward and backward."""
    layer, params = at.layer, at.params
    check_halves(at)
    predicted = _called(at, "predict", (params, at.x))
    expected = layer.advance is core.unchanged if predict_is_forward is None else predict_is_forward
    if expected and not close_trees(predicted, at.y):
        raise GradientError(f"{layer.name}: predict differs from forward", "predict")
    _check_advanced(layer, params, _called(at, "advance", (params, at.cache)))


def check_halves(at: Sample) -> None:
    """Check input_grad and grads against backward."""
    for i, half, whole in ((1, "grads", at.dparams), (0, "input_grad", at.dx)):
        if not close_trees(_called(at, half, (at.params, at.cache, at.g)), whole):
            raise GradientError(f"{at.layer.name}: {half} differs from backward(...)[{i}]", half)


def _called(at: Sample, function: str, arguments: tuple[Arrays, ...]) -> Arrays:
    """Call one of a layer's functions, and check that it is pure."""
    call = partial(getattr(at.layer, function), *arguments)
    before = snapshot(params=at.params, x=at.x, g=at.g, cache=at.cache)
    try:
        first: Arrays = call()
    except Exception as error:
        raise raised(at.layer.name, function, error) from error
    check_untouched(at.layer.name, function, before)
    check_same(at.layer.name, f"a second {function}", call(), first)
    return first


def _check_advanced(layer: Layer, params: Params, advanced: Params) -> None:
    problem = ""
    if not tree.same_structure(advanced, params, states=True):
        problem = "returns params of another structure"
    elif not close_trees(advanced, params):
        problem = "changes trained parameters"
    else:
        after = tree.leaves(advanced, states=True)
        for (path, old), new in zip(core.named_leaves(params, states=True), after, strict=True):
            if (old.shape, old.dtype, old.device) != (new.shape, new.dtype, new.device):
                problem = f"changes the shape or kind of {path}"
    if problem:
        raise GradientError(f"{layer.name}: advance {problem}", "advance")


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

    def check(walk: str, run: Callable[[], Arrays], expected: Arrays, mend: str) -> None:
        try:
            given = run()
        except Exception as error:
            problem = f"{walk} raised {type(error).__name__}, and backward did not: {error}"
            raise GradientError(f"{layer.name}: {problem}; {mend}") from error
        if not close_trees(given, expected):
            raise GradientError(f"{layer.name}: {walk} differs from backward; {mend}")

    check("the walk of a step", stepped, at.dparams, _KEPT)
    check("lf.cotangents with lf.grads_at", recorded, (at.dx, at.dparams), _RECORDED)


def differs(at: Sample, reference: Layer | None, *tolerances: float) -> bool:
    """Return whether forward computes something else than the reference that was given."""
    if reference is None:
        return False
    return not close_trees(at.y, reference.forward(at.params, at.x)[0], *tolerances)
