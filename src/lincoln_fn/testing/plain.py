"""The comparison that right code passes at once, away from kinks; of fewer rows where x is long."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import Arrays, Key, keys, tree
from lincoln_fn.testing.diagnosis import close
from lincoln_fn.testing.entries import agree_in_entries, largest
from lincoln_fn.testing.oracles import by_autograd, inner, scales, slope_along
from lincoln_fn.testing.sample import Sample, random_like, sample

# What rounding leaves of terms that cancel, in parts of the largest gradient.
ROUNDING = 1e-13
# A difference tells of a gradient if its noise is a smaller part of it.
SEEN = 1e-3


def is_plainly_right(at: Sample, key: Key, directions: int) -> bool:
    """Compare gradients with differences along random directions, and with autograd."""
    if not all(bool(torch.isfinite(gradient).all()) for gradient in at.given):
        return False
    if any(g.shape != a.shape for g, a in zip(at.given, at.arrays, strict=True)):
        return False
    automatic = by_autograd(at.forward, at.arrays, at.g)
    least = ROUNDING * largest(at)
    if automatic is None or not all(
        agree_in_entries(given, auto, least)
        for given, auto in zip(at.given, automatic, strict=True)
    ):
        return False
    draws = ((i, i * directions + j) for i in range(len(at.arrays)) for j in range(directions))
    return all(agrees_along(at, i, key.fold_in(n), 1e-6) for i, n in draws)


def agrees_along(at: Sample, i: int, key: Key, part: float) -> bool:
    """Compare a gradient with a difference along a random direction."""
    array = at.arrays[i]
    draw = keys.normal(key, tuple(array.shape), dtype=torch.float64).to(array.device)
    rounding = 1e-9 * inner(tree.map(_absolute, at.g), tree.map(_absolute, at.y))
    least = ROUNDING * largest(at)
    # Beside large numbers a step of no fixed size is seen: it has the scale of each.
    for direction in (draw, draw * scales(array)):
        products = at.given[i] * direction
        size = float(products.abs().sum())
        noise = rounding + least * float(direction.abs().sum())
        slope = slope_along(at.forward, at.arrays, i, direction, at.g)
        if not abs(float(products.sum()) - slope) <= part * size + noise:
            return False
        if noise <= SEEN * size:
            break
    return True


def first_not_linear(at: Sample, key: Key) -> str | None:
    """Find a gradient that is not linear in g."""
    other = random_like(at.y, key)
    mixed: Arrays = tree.map(lambda a, b: 2 * a - 3 * b, at.g, other)
    results = [at.given]
    for g in (other, mixed):
        dx, dparams = at.layer.backward(at.params, at.cache, g)
        results.append(tree.leaves({"dparams": dparams, "dx": dx}))
    rows = zip(*results, strict=True)
    for name, (a, b, both) in zip(at.names, rows, strict=True):
        expected = 2 * a - 3 * b
        is_finite = expected.isfinite()
        if both.shape != expected.shape or not close(both[is_finite], expected[is_finite]):
            return name
    return None


def _absolute(leaf: Tensor) -> Tensor:
    """Compute absolute values, but not of a mask."""
    return leaf if leaf.dtype is torch.bool else leaf.abs()


# Of more numbers than these, differences take long.
MOST = 300
ROWS = 3
# The part of a gradient by which it is clearly wrong.
CLEAR = 1e-4


def is_long(at: Sample) -> bool:
    """Return whether differences for every number take long."""
    return sum(array.numel() for array in at.arrays) > MOST


def shortened(at: Sample, key: Key) -> Sample | None:
    """Make a sample of the first rows of x in which the same gradients are wrong; None if none."""
    rows = {leaf.shape[0] if leaf.ndim else 0 for leaf in tree.leaves(at.x)}
    if len(rows) != 1 or max(rows) <= ROWS:
        return None
    try:
        short = sample(at.layer, at.params, tree.map(lambda leaf: leaf[:ROWS], at.x), key)
        wrong = _clearly_wrong(at, key)
        return short if any(wrong) and _clearly_wrong(short, key) == wrong else None
    except Exception:  # the layer may refuse another number of rows in any way
        return None


def _clearly_wrong(at: Sample, key: Key) -> list[bool]:
    return [not agrees_along(at, i, key.fold_in(i), CLEAR) for i in range(len(at.arrays))]
