"""Stand-ins, and what the layers share that change x's shape and keep the order of its elements.

A stand-in is the cache of a layer whose backward needs no values.
"""

from __future__ import annotations

from math import prod

from torch import Tensor

from lincoln_fn.core import record
from lincoln_fn.layers.common.shapes import Elements, Moved


@record
class StandIns:
    """Stand-ins for a layer's input and output."""

    x: Elements
    y: Moved


def stand_in(x: Tensor) -> Tensor:
    """Make an expanded zero with x's shape, dtype and device, and the memory of one number."""
    return x.new_zeros(()).expand(x.shape)


def stand_ins(x: Elements, y: Moved) -> StandIns:
    """Make stand-ins for a layer's input and output, of one dtype and device."""
    zero = x.new_zeros(())
    return StandIns(zero.expand(x.shape), zero.expand(y.shape))


def filled(sizes: tuple[int, ...], count: int) -> tuple[int, ...] | None:
    """Find the size that was left open with -1."""
    known = prod(size for size in sizes if size != -1)
    open_size = count // max(known, 1)
    sizes = tuple(open_size if size == -1 else size for size in sizes)
    return sizes if prod(sizes) == count else None
