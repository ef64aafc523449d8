"""Checks that a function changed no argument, and gives the same result again."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Layer, LayerError, Params, tree, version_of
from lincoln_fn.testing.diagnosis import GradientError, ImpureError
from lincoln_fn.testing.sample import Sample, run_backward
from lincoln_fn.walk.internal import InPlaceError, check_in_place


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
    gradients = run_backward(at.layer, at.params, at.cache, at.g)
    try:
        check_same(at.layer.name, "backward", gradients, (at.dx, at.dparams))
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


def check_finite(name: str, path: str, arrays: object) -> None:
    """Check that every value is finite."""
    if told := not_finite(arrays):
        raise GradientError(f"{name}: {path} {told}")


def not_finite(arrays: object) -> str:
    """Count the values that are not finite, in words; "" if all are."""
    count = sum(int((~torch.isfinite(leaf)).sum()) for leaf in tree.leaves(arrays))
    values = "1 value that is" if count == 1 else f"{count} values that are"
    return f"holds {values} not finite" if count else ""


def _identical(a: Tensor, b: Tensor) -> bool:
    return a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
