"""Whether a score is better than the best so far."""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

Mode: TypeAlias = Literal["max", "min"]


def is_gain(score: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Return whether a score is better than the best so far. `nan` never is."""
    if math.isnan(score):
        return False
    if best is None:
        return True
    return score > best + min_delta if mode == "max" else score < best - min_delta
