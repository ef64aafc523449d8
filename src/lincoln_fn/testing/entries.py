"""When a gradient equals an oracle's: beside the largest entry, and then entry by entry.

An error that is small beside the largest entry may be all of another entry, where the scales of a
leaf differ. It may also be the rounding of terms that cancel. Autograd alone cannot tell these two
apart, so differences in that entry decide.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import TOLERANCE
from lincoln_fn.testing.oracles import scales, steady_slope
from lincoln_fn.testing.sample import Sample

# An entry may differ by this part of itself, and of the largest entry.
OF_ENTRY, OF_LARGEST = 1e-2, 1e-8
# Differences take a side only if it is so many times closer than the other.
CLEARLY = 10
LOOKED_AT = 3
# So many roundings of the largest gradient may be left where the terms of an entry cancel.
ROUNDINGS = 16


def agree(given: Tensor, expected: Tensor, floor: float = 1e-12) -> bool:
    """Return whether two gradients are finite and equal, within 1e-5 of the largest value."""
    if given.shape != expected.shape:
        return False
    if not given.numel():
        return True
    limit = TOLERANCE * expected.abs().max() + floor
    return bool(((given - expected).abs() <= limit).all())


def floor(at: Sample) -> float:
    """Return below what size a gradient may be made of rounding errors."""
    return 1e-12 + 1e-10 * largest(at)


def largest(at: Sample) -> float:
    """Return the largest value of all submitted gradients."""
    sizes = [float(given.abs().max()) for given in at.given if given.numel()]
    return max((size for size in sizes if math.isfinite(size)), default=0.0)


def agree_in_entries(given: Tensor, expected: Tensor, floor: float) -> bool:
    """Return whether two gradients are equal in every entry, the small ones included."""
    if given.shape != expected.shape:
        return False
    if not given.numel() or torch.equal(given, expected):  # infinities included
        return True
    return bool((_excess(given, expected) <= floor).all())


def matches(at: Sample, i: int, automatic: Tensor) -> bool:
    """Return whether a submitted gradient equals autograd's, as far as differences see it."""
    given = at.given[i]
    if agree_in_entries(given, automatic, 0.0):
        return True
    if not agree(given, automatic, floor(at)):
        return False
    worst = _excess(given, automatic).flatten() / (automatic.abs().flatten() + 1e-300)
    places = worst.topk(min(LOOKED_AT, worst.numel())).indices.tolist()
    return not any(_contradicts(at, i, place, automatic) for place in places)


def allowed(expected: Tensor) -> Tensor:
    """Compute by how much each entry may differ: 1e-5 of the largest, and less if it is small."""
    size = expected.abs().max()
    return torch.minimum(TOLERANCE * size, OF_ENTRY * expected.abs() + OF_LARGEST * size)


def _excess(given: Tensor, expected: Tensor) -> Tensor:
    return (given - expected).abs() - allowed(expected)


def _contradicts(at: Sample, i: int, place: int, automatic: Tensor) -> bool:
    """Return whether differences in one entry agree with autograd, and not with the submission."""
    scale = scales(at.arrays[i]).flatten()
    direction = torch.zeros_like(scale)
    direction[place] = scale[place]
    along = direction.view(at.arrays[i].shape)
    value, error = steady_slope(at.forward, at.arrays, i, along, at.g)
    given, auto = (
        float(gradient.flatten()[place] * scale[place]) for gradient in (at.given[i], automatic)
    )
    rounding = ROUNDINGS * torch.finfo(at.given[i].dtype).eps * largest(at) * float(scale[place])
    return abs(given - value) > CLEARLY * (abs(auto - value) + error) + rounding
