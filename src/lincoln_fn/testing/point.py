"""Is one gradient right at one point, by differences and by autograd?

It has to equal autograd's beside the largest entry, and then entry by entry. An error that is small
beside the largest entry may be all of another entry, where the scales of a leaf differ. It may also
be the rounding of terms that cancel. Autograd alone cannot tell these two apart, so differences in
that entry decide.
"""

from __future__ import annotations

import math
from itertools import product
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from lincoln_fn.core import Arrays, Key, keys, tree
from lincoln_fn.testing import oracles
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.sample import Sample, floating_leaves, random_like

Comparison: TypeAlias = Literal["right", "wrong", "blind"]
# A gradient that differs by this part of its terms from a slope is right.
SAME = 2e-6
# Differences whose steps disagree by more than this part cannot tell.
UNSTEADY = 1e-4
LARGEST_FULL_GRADIENT = 3000
# Differences take a side only if it is so many times closer than the other.
CLEARLY = 10
LOOKED_AT = 3
# So many roundings of the largest gradient may be left where the terms of an entry cancel.
ROUNDINGS = 16
# What rounding leaves of terms that cancel, in parts of the largest gradient.
ROUNDING = 1e-13
NOT_LINEAR = "is not linear in g: is g a factor of every term?"
DETACHED = "{}: autograd gives another value: does forward detach a part?"


def by_differences(at: Sample, i: int, gradient: Tensor, key: Key) -> Comparison:
    """Compare a gradient with differences along a random direction."""
    array = at.arrays[i]
    draw = keys.normal(key.near(array), tuple(array.shape), dtype=array.dtype)
    direction = draw * oracles.scales(array)
    products = gradient * direction
    claimed, size = float(products.sum()), float(products.abs().sum())
    run = at.forward, at.arrays, i, direction, at.g
    value, error = oracles.steady_slope(*run, claimed, SAME * size)
    size = max(size, abs(value))
    noise = floor(at) * float(direction.abs().sum()) + oracles.least_slope(at.y, at.g)
    if not math.isfinite(value) or error > UNSTEADY * size + noise:
        return "blind"
    is_right = abs(claimed - value) <= SAME * size + 10 * error + noise
    return "right" if is_right else "wrong"


def compare(at: Sample, i: int, key: Key) -> Comparison:
    """Judge one submitted gradient at one point."""
    given = at.given[i]
    if given.shape != at.arrays[i].shape:
        return "wrong"
    auto = at.automatic[i] if at.automatic else None
    if auto is None or not is_finite(auto):
        return by_differences(at, i, given, key)
    if matches(at, i, auto):
        if by_differences(at, i, given, key) != "wrong":
            return "right"
        # What forward detaches has another gradient by intent, such as that of a rounding.
        return "blind" if detaches(at) else "wrong"
    is_right, is_zero = by_differences(at, i, auto, key) == "right", not bool(auto.any())
    if is_right and not is_zero:
        return "wrong"
    seen = by_differences(at, i, given, key)
    if seen == "right" and not is_right:
        return "right"  # forward hides a part of itself from autograd
    # Autograd sees nothing of a forward that leaves torch.
    return "blind" if seen == "blind" and is_zero else "wrong"


class _Seen(TorchFunctionMode):
    """Notices which of torch's functions are called; "no_grad" is one while autograd is off."""

    def __init__(self) -> None:
        super().__init__()
        self.names: set[str] = set()

    # Any: of every function of torch.
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = getattr(func, "__name__", "")
        if name == "__get__":  # of a property, such as `data`
            name = getattr(getattr(func, "__self__", None), "__name__", "")
        self.names.add(name)
        result = func(*args, **(kwargs or {}))
        is_number = isinstance(result, Tensor) and result.is_floating_point()
        if is_number and not torch.is_grad_enabled():
            self.names.add("no_grad")
        return result


def detaches(at: Sample) -> bool:
    """Return whether forward detaches a tensor, and so declares its gradient by autograd."""
    return _calls(at, "detach", "detach_", "data", "no_grad")


def leaves_torch(at: Sample) -> bool:
    """Return whether forward goes on with arrays of numpy, or with numbers of Python."""
    return _calls(at, "numpy", "__array__", "item", "tolist")


def _calls(at: Sample, *names: str) -> bool:
    with torch.enable_grad(), _Seen() as seen:
        at.forward(at.arrays)
    return not seen.names.isdisjoint(names)


def truth(at: Sample, key: Key) -> list[Tensor]:
    """Compute the right gradients at a point: autograd's, unless differences contradict it."""
    found = []
    for i, array in enumerate(at.arrays):
        auto = at.automatic[i] if at.automatic else None
        if auto is not None and is_finite(auto):
            contradicted = by_differences(at, i, auto, key) == "wrong"
            if not contradicted or array.numel() > LARGEST_FULL_GRADIENT:
                found.append(auto)
                continue
        found.append(oracles.full_gradient(at.forward, at.arrays, i, at.g))
    return found


def one_sided(at: Sample, i: int, place: tuple[int, ...]) -> tuple[float, float]:
    """Compute the slopes below and above one place."""
    array = at.arrays[i]
    step = 1e-6 * float(oracles.scales(array)[place])

    def moved(by: float) -> list[Tensor]:
        arrays = list(at.arrays)
        arrays[i] = array.clone()
        arrays[i][place] += by
        return floating_leaves(at.forward(arrays))

    gs = floating_leaves(at.g)
    below, here, above = moved(-step), moved(0.0), moved(step)

    def slope(a: list[Tensor], b: list[Tensor]) -> float:
        return sum(float((g * (q - p)).sum()) for g, p, q in zip(gs, a, b, strict=True)) / step

    return slope(below, here), slope(here, above)


def is_finite(gradient: Tensor) -> bool:
    """Return whether every value is finite."""
    return bool(torch.isfinite(gradient).all())


def floor(at: Sample) -> float:
    """Return below what size a gradient may be made of rounding errors."""
    return 1e-12 + 1e-10 * largest(at)


def largest(at: Sample) -> float:
    """Return the largest value of all submitted gradients."""
    return max(filter(math.isfinite, map(oracles.size_of, at.given)), default=0.0)


def is_close(at: Sample, i: int, expected: Tensor) -> bool:
    """Return whether a submitted gradient is another one, up to the error of differences."""
    return close(at.given[i], expected, floor(at))


def matches(at: Sample, i: int, automatic: Tensor) -> bool:
    """Return whether a submitted gradient equals autograd's, as far as differences see it."""
    given = at.given[i]
    if oracles.agree_in_entries(given, automatic, 0.0):
        return True
    if not is_close(at, i, automatic):
        return False
    worst = oracles.excess(given, automatic).flatten() / (automatic.abs().flatten() + 1e-300)
    places = worst.topk(min(LOOKED_AT, worst.numel())).indices.tolist()
    return not any(_contradicts(at, i, place, automatic) for place in places)


def _contradicts(at: Sample, i: int, place: int, automatic: Tensor) -> bool:
    """Return whether differences in one entry agree with autograd, and not with the submission."""
    scale = oracles.scales(at.arrays[i])
    value, error = oracles.steady_slope(at.forward, at.arrays, i, oracles.entry(scale, place), at.g)
    given, auto, size = (
        float(each.flatten()[place]) for each in (at.given[i] * scale, automatic * scale, scale)
    )
    rounding = ROUNDINGS * torch.finfo(at.given[i].dtype).eps * largest(at) * size
    unseen = CLEARLY * (abs(auto - value) + error) + oracles.least_slope(at.y, at.g)
    return abs(given - value) > unseen + rounding


def is_plainly_right(at: Sample, key: Key, directions: int) -> bool:
    """Compare gradients with differences along random directions, and with autograd."""
    automatic, least = at.automatic, ROUNDING * largest(at)
    if automatic is None or not all(
        oracles.agree_in_entries(given, auto, least)
        for given, auto in zip(at.given, automatic, strict=True)
    ):
        return False
    draws = enumerate(product(range(len(at.arrays)), range(directions)))
    return all(by_differences(at, i, at.given[i], key.fold_in(n)) == "right" for n, (i, _) in draws)


def not_linear(at: Sample, key: Key) -> list[str]:
    """List the gradients that are not linear in g."""
    other = random_like(at.y, key)
    mixed: Arrays = tree.map(lambda a, b: 2 * a - 3 * b, at.g, other)
    results = [at.given]
    for g in (other, mixed):
        dx, dparams = at.layer.backward(at.params, at.cache, g)
        results.append(tree.leaves({"dparams": dparams, "dx": dx}))
    found = []
    for name, (a, b, both) in zip(at.names, zip(*results, strict=True), strict=True):
        expected = 2 * a - 3 * b
        is_finite = expected.isfinite()
        if both.shape != expected.shape or not close(both[is_finite], expected[is_finite]):
            found.append(name)
    return found
