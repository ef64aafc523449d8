"""Fewer rows of x, where differences alone tell a gradient, and many numbers would take long."""

from __future__ import annotations

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.testing.plain import agrees_along
from lincoln_fn.testing.sample import Sample, sample

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
