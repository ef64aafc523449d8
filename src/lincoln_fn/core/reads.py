"""Numbers that Python reads from tensors, to check them."""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Final

from torch import Tensor

# What is asked of the number that is being read: whether it lies between two others. A recorded
# program asks the same of its own number; of any other number it asks whether it is the same.
ASKED: Final[ContextVar[tuple[float, float] | None]] = ContextVar("ASKED", default=None)


def is_between(lowest: float, x: Tensor, highest: float) -> bool:
    """Return whether the number of a tensor lies between two others; nan never does."""
    before = ASKED.set((lowest, highest))
    try:
        return lowest <= x.item() <= highest
    finally:
        ASKED.reset(before)


def is_finite(x: Tensor) -> bool:
    """Return whether the number of a tensor is finite."""
    return is_between(-sys.float_info.max, x, sys.float_info.max)
