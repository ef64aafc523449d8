"""Errors that name the layer, what it expected, and what it was given; and warnings.

A layer's functions check their arguments once. A combinator adds the position of the part that
raised an error: `serial[2] dense(10): expected ...`.
"""

from __future__ import annotations

import sys
import warnings
from pathlib import Path
from types import FrameType
from typing import Final

_LIBRARY: Final = f"{Path(__file__).parents[1]}"


class LayerError(ValueError):
    """An error in the arguments of a layer or loss, with its position in the network.

    Args:
        where: the positions from the outermost composition inwards, and the layer's name.
        problem: what was expected and what was given.

    Example:
        >>> raise LayerError("dense(10)", "expected x of shape (..., 500), got (128, 400)")
        Traceback (most recent call last):
        lincoln_fn.LayerError: dense(10): expected x of shape (..., 500), got (128, 400)
    """

    __module__ = "lincoln_fn"  # as users write it, and as a traceback shows it

    def __init__(self, where: str, problem: str) -> None:
        super().__init__(where, problem)
        self.where = where
        self.problem = problem

    def __str__(self) -> str:
        return shortened(f"{self.where}: {self.problem}")


def unexpected(where: str, expected: str, got: object, mend: str = "") -> LayerError:
    """Make the error that says what was expected, what it got (a text, say), and what to write.

    Every error of this form is made here.

    Example:
        >>> unexpected("serial", "at least one part", "none", "write lf.identity()").problem
        'expected at least one part, got none; write lf.identity()'
    """
    said = f"expected {expected}, got {tuple(got) if isinstance(got, tuple) else got}"
    return LayerError(where, f"{said}; {mend}" if mend else said)


# A call that is longer is shown without its inner arguments.
_LONG: Final = 240


def shortened(text: str) -> str:
    """Shorten the long calls in a text, such as a network's name: "serial(...)"."""
    pieces, depth = [""], 0  # outside of parentheses, and each group in them
    for letter in text:
        if letter == "(" and not depth:
            pieces.append("")
        pieces[-1] += letter
        depth += (letter == "(") - (letter == ")" and depth > 0)
        if letter == ")" and not depth:
            pieces[-1] = _brief(pieces[-1])
            pieces.append("")
    return "".join(pieces)


def _brief(group: str) -> str:
    """Leave out what is in inner parentheses, and all if that is not enough."""
    if len(group) <= _LONG or "\n" in group or group[0] != "(":
        return group
    shown, depth = "", 0
    for letter in group:
        depth -= letter == ")"
        shown += letter if depth < 2 else ""
        depth += letter == "("
        shown += "..." if letter == "(" and depth == 2 else ""
    return shown if len(shown) <= _LONG else "(...)"


class NonFiniteError(LayerError):
    """A `nan` or an infinity, with the first layer whose output has it."""

    __module__ = "lincoln_fn"


def place(error: LayerError, position: str, name: str) -> LayerError:
    """Add the position of a part in a composition to an error that it raised."""
    # A part that is a composition has already named a position. A single layer has only its bare
    # name, which is replaced by the full one.
    is_composition = "[" in error.where.partition("(")[0]
    return type(error)(f"{position} {error.where if is_composition else name}", error.problem)


def warn(message: str) -> None:
    """Warn at the first line outside of the library, so that it is shown once a line."""
    frame: FrameType | None = sys._getframe(1)
    level = 2
    while frame is not None and frame.f_code.co_filename.startswith(_LIBRARY):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, UserWarning, stacklevel=level)
