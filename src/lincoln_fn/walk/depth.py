"""Room for deep networks on Python's stack. This is not pure.

A walk through nested compositions is a recursion, with a few Python calls per level. Python's
recursion limit, 1,000 calls by default, is a setting of the whole process.
"""

from __future__ import annotations

import sys
from typing import Final

from lincoln_fn.core import LayerError

# The largest number of calls per level, which `summary` of a residual needs. And the calls that a
# single layer, a test runner or a notebook needs.
_A_LEVEL: Final = 10
_BESIDE: Final = 500


# Python's stack and optree, which lists the params, end at about twice as many.
MOST: Final = 500


def make_room(label: str, depth: int) -> None:
    """Raise Python's recursion limit if a walk through a deeply nested network would reach it."""
    if depth > MOST:
        problem = f"expected at most {MOST} compositions within each other, got {depth}"
        raise LayerError(label, f"{problem}; write one serial of many parts")
    # The limit is never lowered: other threads may be in the middle of a walk.
    needed = _A_LEVEL * depth + _BESIDE
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)
