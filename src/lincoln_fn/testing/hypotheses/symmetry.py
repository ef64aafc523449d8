"""Is a wrong gradient the right one of some other function?

The second derivatives of a function are symmetric. So if backward is the gradient of any function
s(x, params) = <g, y> at all, then for all directions a and b

    <b, D_a backward> = <a, D_b backward>

with D_a the derivative along a, for fixed g. A mistake in backward breaks this as a rule. If it
holds, backward is consistent and forward is another function than the one it was derived for.
"""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import keys
from lincoln_fn.core.keys import Key
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.plain import first_not_linear

STEP = 1e-5


def fits_another_forward(evidence: Evidence) -> bool:
    """Return whether the submitted gradients are those of another function, no diagonal one."""
    sample = evidence.sample
    if any(a.shape != b.shape for a, b in evidence.pairs()):
        return False
    # The sums below are those of the large entries, and say nothing of a mistake in small ones.
    if not any(_is_seen(a - b, b) for a, b in evidence.pairs()):
        return False
    if first_not_linear(sample, Key(8)) is not None:
        return False
    told = False
    for n in range(3):
        a, b = (_draw_direction(evidence, Key(7).fold_in(2 * n + m)) for m in (0, 1))
        try:
            along_a, along_b = _differentiate(evidence, a), _differentiate(evidence, b)
        except Exception:  # a submission may fail elsewhere, in any way
            return False
        first = _multiply(b, along_a)
        scale = _multiply([v.abs() for v in b], [v.abs() for v in along_a])
        if not abs(first - _multiply(a, along_b)) <= 1e-4 * scale:
            return False
        told = told or scale > 1e-6 * _multiply(
            [v.abs() for v in b], [v.abs() for v in sample.given]
        )
    return told and not _is_diagonal(evidence)


def _is_seen(error: Tensor, right: Tensor) -> bool:
    return bool(error.numel()) and bool(error.abs().max() > 1e-3 * right.abs().max())


def _draw_direction(evidence: Evidence, key: Key) -> list[Tensor]:
    arrays = enumerate(evidence.sample.arrays)
    return [
        keys.normal(key.fold_in(i).near(array), tuple(array.shape), dtype=array.dtype)
        for i, array in arrays
    ]


def _differentiate(evidence: Evidence, direction: list[Tensor]) -> list[Tensor]:
    """Compute D_a backward, by central differences."""
    sample = evidence.sample
    pairs = list(zip(sample.arrays, direction, strict=True))
    up = sample.at([array + STEP * d for array, d in pairs]).given
    down = sample.at([array - STEP * d for array, d in pairs]).given
    return [(a - b) / (2 * STEP) for a, b in zip(up, down, strict=True)]


def _is_diagonal(evidence: Evidence) -> bool:
    """Return whether a change at every second place leaves the gradient at the others as it is."""
    halves = []
    for array in evidence.sample.arrays:
        half = torch.zeros_like(array).flatten()
        half[::2] = 1
        halves.append(half.view(array.shape))
    changes = _differentiate(evidence, halves)
    outside = [c * (1 - half) for c, half in zip(changes, halves, strict=True)]
    return len(halves) == 1 and all(float(c.abs().max()) < 1e-8 for c in outside if c.numel())


def _multiply(a: list[Tensor], b: list[Tensor]) -> float:
    return sum(float((p * q).sum()) for p, q in zip(a, b, strict=True))
