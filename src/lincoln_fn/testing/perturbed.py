"""A layer at perturbed params and x, where no 1, no 0 and no symmetry hides a mistake.

Every number is multiplied by a random factor of its own between 0.3 and 0.9; a zero becomes a small
number. So signs stay, probabilities and variances stay what they are, and nothing becomes larger.
What a layer needs beyond that is found by trying: if forward raises, or gives numbers that are not
finite, the numbers change less, then leaf by leaf, and a leaf that cannot change stays.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from lincoln_fn.core import Key, LayerError, keys, tree
from lincoln_fn.testing.contract import not_finite
from lincoln_fn.testing.diagnosis import GradientError
from lincoln_fn.testing.sample import Sample, sample

FACTORS = 0.3, 0.9
# How much of the change is tried: all, a part, and that part in the other direction.
CLOSER = 0.1
STEPS = 1.0, CLOSER, -CLOSER


def perturbed(at: Sample, key: Key) -> Sample | None:
    """Run a layer at perturbed params and x, states included, for the same g."""
    given = leaves_of(at)
    movable = [i for i, leaf in enumerate(given) if is_movable(leaf)]
    if not movable:
        return None
    small = list(given)
    for i, leaf in zip(movable, _shrunk([given[i] for i in movable], key), strict=True):
        small[i] = leaf
    for step in STEPS:
        if found := _tried(at, _between(given, small, step)):
            return found
    best, leaves = None, list(given)
    for i in movable:
        for step in STEPS:
            candidate = torch.lerp(given[i], small[i], step)
            if found := _tried(at, [*leaves[:i], candidate, *leaves[i + 1 :]]):
                best, leaves[i] = found, candidate
                break
    return best


def closer(at: Sample, given: Sample) -> Sample:
    """Run a perturbed layer nearer to the given params and x."""
    return with_leaves(at, _between(leaves_of(given), leaves_of(at), CLOSER))


def leaves_of(at: Sample) -> list[Tensor]:
    """List all leaves of params and x, states included."""
    return tree.leaves((at.params, at.x), states=True)


def with_leaves(at: Sample, leaves: Sequence[Tensor]) -> Sample:
    """Run the layer, for the same g, at other leaves of params and x, states included."""
    values = iter(leaves)
    params, x = tree.map(lambda leaf: next(values), (at.params, at.x), states=True)
    return sample(at.layer, params, x, at.g)


def is_movable(leaf: Tensor) -> bool:
    """Return whether a leaf has floating numbers, all of them finite."""
    if not (isinstance(leaf, Tensor) and leaf.is_floating_point() and leaf.numel()):
        return False
    return bool(leaf.isfinite().all())


def _tried(at: Sample, leaves: Sequence[Tensor]) -> Sample | None:
    """Run the layer at other leaves; None if it is not defined there."""
    try:
        found = with_leaves(at, leaves)
    except (GradientError, LayerError):
        return None
    return None if not_finite(found.y) else found


def _shrunk(arrays: Sequence[Tensor], key: Key) -> list[Tensor]:
    """Multiply each number by a factor of its own; a zero changes by as much as a typical one."""
    sizes = [array.numel() for array in arrays]
    factors = torch.split(keys.uniform(key.near(arrays[0]), (sum(sizes),), *FACTORS), sizes)
    return [_scaled(a, f.view(a.shape).to(a)) for a, f in zip(arrays, factors, strict=True)]


def _scaled(array: Tensor, factor: Tensor) -> Tensor:
    scaled, is_zero = array * factor, array == 0
    if not bool(is_zero.any()):
        return scaled
    known = array[~is_zero]
    typical = known.square().mean().sqrt() if known.numel() else array.new_ones(())
    step = typical * (1 - factor)
    if bool((known < 0).any()):  # in both directions, unless all are negative
        is_down = (factor < sum(FACTORS) / 2) | bool((known < 0).all())
        step = torch.where(is_down, -step, step)
    return torch.where(is_zero, step, scaled)


def _between(given: Sequence[Tensor], moved: Sequence[Tensor], step: float) -> list[Tensor]:
    pairs = zip(given, moved, strict=True)
    return [a if a is b else b if step == 1 else torch.lerp(a, b, step) for a, b in pairs]
