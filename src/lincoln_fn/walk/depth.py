"""Room for deep networks on Python's stack: an impure edge.

A walk through compositions within compositions is a recursion: a few Python calls a level. Python's
recursion limit, 1,000 calls by default, is a setting of the whole process.
"""

from __future__ import annotations

import sys
from typing import Final

# Calls a level, at most: `summary` of a residual takes the most. And what a single layer, a test
# runner or a notebook needs beside them.
_A_LEVEL: Final = 10
_BESIDE: Final = 500


def make_room(depth: int) -> None:
    """Raise Python's recursion limit if a network is nested so deeply that a walk would meet it.

    The limit is never lowered: other threads may be deep in a walk.

    Args:
        depth: how many compositions are nested within each other.

    Example:
        >>> import sys
        >>> make_room(300)
        >>> sys.getrecursionlimit() >= 3000
        True
    """
    needed = _A_LEVEL * depth + _BESIDE
    if sys.getrecursionlimit() < needed:
        sys.setrecursionlimit(needed)
