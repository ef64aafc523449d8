"""Checks of the contract: nothing is changed in place, and all functions give the same numbers.

`backward` is one walk of a composition. A step keeps only the caches that it reads, and others
record the cotangents first. Each gives the number of `backward`. It need not give the same bits,
since a layer's `grads` may compute that number in another way than its `backward`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, LayerError, Params, tree, unchanged, version_of
from lincoln_fn.testing.diagnosis import GradientError, ImpureError, close
from lincoln_fn.testing.sample import Sample, describe_error, run_backward
from lincoln_fn.walk import cotangents, forward_to_train, gradients, grads_at
from lincoln_fn.walk.internal import InPlaceError, check_in_place

_KEPT: Final = "the cache of a part from which nothing is needed is None in a step"
_RECORDED: Final = (
    "`back` returns the records of its parts as visit returned them, and `gather` turns each into "
    "a gradient by visit(i, params, record)"
)


class Seen(NamedTuple):
    """A recorded tensor: its path, the tensor, its version counter, and a copy of its values."""

    path: str
    tensor: Tensor
    version: int
    copy: Tensor


def snapshot(**trees: object) -> list[Seen]:
    """Record tensors as they are."""
    pairs = zip(tree.paths(trees, states=True), tree.leaves(trees, states=True), strict=True)
    return [Seen(p, t, version_of(t), t.clone()) for p, t in pairs if isinstance(t, Tensor)]


def check_untouched(name: str, function: str, before: list[Seen]) -> None:
    """Check that recorded tensors were not changed in place, not even temporarily."""
    for path, tensor, version, copy in before:
        if version_of(tensor) != version or not _identical(tensor, copy):
            raise ImpureError(f"{name}: {function} changed {path} in place", function)


def check_same(name: str, what: str, given: object, expected: object) -> None:
    """Check that a repeated call gave the same result, bit for bit."""
    same = tree.same_structure(given, expected) and all(
        _identical(a, b) for a, b in zip(tree.leaves(given), tree.leaves(expected), strict=True)
    )
    if not same:
        raise ImpureError(f"{name}: {what} gives something else", what.removeprefix("a second "))


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)


def check_kept(at: Sample) -> None:
    """Check that backward finds all it needs in its cache, whatever forward has run since."""

    def smaller(leaf: object) -> object:
        return 0.7 * leaf if isinstance(leaf, Tensor) and leaf.is_floating_point() else leaf

    before = snapshot(cache=at.cache)
    try:
        at.layer.forward(at.params, tree.map(smaller, at.x))
    except Exception:  # the layer may refuse another x in any way
        return
    check_untouched(at.layer.name, "a further forward", before)
    given = run_backward(at.layer, at.params, at.cache, at.g)
    try:
        check_same(at.layer.name, "backward", given, (at.dx, at.dparams))
    except ImpureError:
        told = "backward reads what forward kept outside of the cache"
        raise ImpureError(f"{at.layer.name}: {told}", "backward") from None


def check_parts(layer: Layer, params: Params, x: Arrays, g: Arrays) -> None:
    """Check that no part of a composition changes in place what another part holds."""
    if layer.composition is None:
        return
    try:
        check_in_place(layer, params, x, lambda y: g)
    except InPlaceError as error:
        raise ImpureError(f"{layer.name}: {error}", "forward") from None
    except LayerError:  # of a loop that these walks cannot run: `check_walks` says so
        return


def not_finite(arrays: object) -> str:
    """Count the values that are not finite, in words; "" if all are."""
    count = sum(int((~torch.isfinite(leaf)).sum()) for leaf in tree.leaves(arrays))
    values = "1 value that is" if count == 1 else f"{count} values that are"
    return f"holds {values} not finite" if count else ""


def close_trees(given: object, expected: object) -> bool:
    """Return whether two trees have one structure and, up to rounding, the same values."""
    return tree.same_structure(given, expected) and all(
        close(a, b) for a, b in zip(tree.leaves(given), tree.leaves(expected), strict=True)
    )


def check_other_functions(
    at: Sample, predict_is_forward: bool | None, *, once: bool = False
) -> None:
    """Check predict, input_grad, grads and advance against forward and backward."""
    layer, params = at.layer, at.params
    check_halves(at, once=once)
    predicted = _called(at, "predict", (params, at.x), once=once)
    expected = layer.advance is unchanged if predict_is_forward is None else predict_is_forward
    if expected and not close_trees(predicted, at.y):
        raise GradientError(f"{layer.name}: predict differs from forward", "predict")
    _check_advanced(layer, params, _called(at, "advance", (params, at.cache), once=once))


def check_halves(at: Sample, *, once: bool = False) -> None:
    """Check input_grad and grads against backward."""
    for i, half, whole in ((1, "grads", at.dparams), (0, "input_grad", at.dx)):
        alone = _called(at, half, (at.params, at.cache, at.g), once=once)
        if not close_trees(alone, whole):
            raise GradientError(f"{at.layer.name}: {half} differs from backward(...)[{i}]", half)


def _called(at: Sample, function: str, arguments: tuple[Arrays, ...], *, once: bool) -> Arrays:
    """Call one of a layer's functions, and check that it is pure unless it is called once."""
    call = partial(getattr(at.layer, function), *arguments)
    before = [] if once else snapshot(params=at.params, x=at.x, g=at.g, cache=at.cache)
    try:
        first: Arrays = call()
    except Exception as error:
        told = f"{at.layer.name}: {function} raised {describe_error(error)}"
        raise GradientError(told, function) from error
    if not once:
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
        paths = tree.paths(params, states=True)
        leaves = (tree.leaves(both, states=True) for both in (params, advanced))
        for path, old, new in zip(paths, *leaves, strict=True):
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

    walks: tuple[tuple[str, Callable[[], Arrays], Arrays, str], ...] = (
        ("the walk of a step", stepped, at.dparams, _KEPT),
        ("lf.cotangents with lf.grads_at", recorded, (at.dx, at.dparams), _RECORDED),
    )
    for walk, run, expected, mend in walks:
        try:
            given = run()
        except Exception as error:
            problem = f"{walk} raised {type(error).__name__}, and backward did not: {error}"
            raise GradientError(f"{layer.name}: {problem}; {mend}") from error
        if not close_trees(given, expected):
            raise GradientError(f"{layer.name}: {walk} differs from backward; {mend}")
