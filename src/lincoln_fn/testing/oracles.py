"""Two independent answers to what a gradient should be: central differences and autograd.

Both differentiate the scalar s = <g, forward(params, x)>, whose gradient is what `backward`
returns. It depends on the floating leaves of (params, x), which are listed with their paths.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, LayerError, tree
from lincoln_fn.testing.diagnosis import TOLERANCE
from lincoln_fn.testing.from_numpy import Forward, outputs

# Gradients, None where autograd finds no path; None if it does not follow.
Reached: TypeAlias = Sequence[Tensor | None] | None
# Of differences, the usual one first.
STEPS = 1e-5, 1e-6, 1e-4, 1e-7, 1e-9
ROUNDING = torch.finfo(torch.float64).eps / STEPS[0]
# Two steps that agree to this part need no third.
STEADY = 1e-8
# An entry may differ by this part of itself, and of the largest entry.
OF_ENTRY, OF_LARGEST = 1e-2, 1e-8


def size_of(t: Tensor) -> float:
    """Return the largest of a tensor's values; nan if one is."""
    return float(t.detach().abs().max()) if t.numel() else 0.0


def error_of(given: Tensor, right: Tensor) -> float:
    """Return the largest difference."""
    return size_of(given.double() - right.double())


def relative_error(given: Tensor, right: Tensor) -> float:
    """Return the largest difference in parts of the largest right value; inf for another shape."""
    is_shape = given.shape == right.shape
    return error_of(given, right) / (size_of(right) or 1.0) if is_shape else float("inf")


def steady_slope(
    forward: Forward, arrays: Sequence[Tensor], which: int, direction: Tensor, g: Arrays,
    claimed: float = math.nan, within: float = 0.0, steps: Sequence[float] = STEPS,
) -> tuple[float, float]:  # fmt: skip
    """Compute the derivative of s along a direction, and by how much it changes with the step."""
    # Of central differences with several steps, those that change least are taken. A slope that is
    # what is claimed needs no second one.

    def moved(step: float) -> list[Tensor]:
        array = arrays[which] + step * direction
        return tree.leaves(forward([*arrays[:which], array, *arrays[which + 1 :]]))

    best, last = (math.nan, math.inf), math.nan
    for step in steps:
        try:
            # So outputs that do not change contribute no rounding error.
            triples = zip(moved(step), moved(-step), tree.leaves(g), strict=True)
            rows = [((up - down) * c).sum() for up, down, c in triples if up.is_floating_point()]
            slope = sum(row.item() for row in rows) / (2 * step)
        except LayerError:  # outside of the layer's domain
            slope = math.nan
        if abs(slope - claimed) <= within:
            return slope, 0.0
        error = abs(slope - last)
        if error < best[1]:
            best = slope, error
        if error <= STEADY * abs(slope):
            break
        last = slope
    return best


def least_slope(y: Arrays, g: Arrays, rounding: float = ROUNDING) -> float:
    """Compute the size of slopes that differences do not see, since y is rounded."""
    # Where y does not change at all, the slope may be 0, or as large as this.
    pairs = zip(tree.leaves(y), tree.leaves(g), strict=True)
    size = sum(float((leaf * c).abs().sum()) for leaf, c in pairs if leaf.is_floating_point())
    return size * rounding


def full_gradient(forward: Forward, arrays: Sequence[Tensor], which: int, g: Arrays) -> Tensor:
    """Compute the whole gradient of s with respect to one array, element by element."""
    scale = scales(arrays[which])
    directions = (entry(scale, i) for i in range(scale.numel()))
    slopes = [steady_slope(forward, arrays, which, each, g)[0] for each in directions]
    return arrays[which].new_tensor(slopes).view(scale.shape) / scale


def entry(of: Tensor, i: int) -> Tensor:
    """Make the tensor that has one of the numbers, and else zeros."""
    alone = torch.zeros_like(of)
    alone.view(-1)[i] = of.flatten()[i]
    return alone


def scales(array: Tensor) -> Tensor:
    """Return by how much each place may change: its size, or the typical one for a zero."""
    size = array.abs()
    known = size[size > 0]
    typical = known.square().mean().sqrt() if known.numel() else size.new_ones(())
    return torch.where(size > 0, size, typical)


def differentiated(forward: Forward, arrays: Sequence[Tensor], g: Arrays) -> Reached:
    """Compute the gradients of s by autograd; None if it does not follow, or for one array."""
    if not arrays:
        return ()
    with torch.enable_grad():
        watched = [array.detach().clone().requires_grad_() for array in arrays]
        try:
            pairs = zip(outputs(forward, watched), tree.leaves(g), strict=True)
            total = torch.stack([(y * cotangent).sum() for y, cotangent in pairs]).sum()
            if not total.requires_grad:
                return None
            found: Reached = torch.autograd.grad(total, watched, allow_unused=True)
            return found
        except (RuntimeError, TypeError, ValueError):
            return None


def agree_in_entries(given: Tensor, expected: Tensor, floor: float) -> bool:
    """Return whether two gradients are equal in every entry, the small ones included."""
    if given.shape != expected.shape:
        return False
    if not given.numel() or torch.equal(given, expected):  # infinities included
        return True
    return bool((excess(given, expected) <= floor).all())


def allowed(expected: Tensor) -> Tensor:
    """Compute by how much each entry may differ: 1e-5 of the largest, and less if it is small."""
    size = expected.abs().max()
    return torch.minimum(TOLERANCE * size, OF_ENTRY * expected.abs() + OF_LARGEST * size)


def excess(given: Tensor, expected: Tensor) -> Tensor:
    """Compute by how much each entry differs more than it may."""
    return (given - expected).abs() - allowed(expected)
