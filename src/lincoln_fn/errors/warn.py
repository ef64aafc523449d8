"""Warnings at the line of the user's code that caused them, so that each is shown once a line."""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

_LIBRARY: Final = f"{Path(__file__).parents[1]}"


def warn(message: str) -> None:
    """Warn, and name the first line outside of the library."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
