"""Errors that name the layer, what it expected, and what it was given; and warnings.

A layer's functions check their arguments once. A combinator adds the position of the part that
raised an error: `serial[2] dense(10): expected ...`.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import FrameType
from typing import Final

from lincoln_fn.errors import later
from lincoln_fn.errors.annotations import ByName, Given
from lincoln_fn.errors.descriptions import describe, is_function, shown

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
    """Make the error that says what was expected, what it got (a text, say), and what to write."""
    said = f"expected {expected}, got {tuple(got) if isinstance(got, tuple) else got}"
    return LayerError(where, f"{said}; {mend}" if mend else said)


def require(holds: bool, where: str, expected: str, given: object, mend: str = "") -> None:
    """Check a condition that no type says, such as one between a constructor's arguments."""
    if not holds:
        raise unexpected(where, expected, shown(given), mend)


def wrong_kind(where: str, name: str, given: object, kind: str, order: str = "") -> LayerError:
    """Make the error about an argument of the wrong kind."""
    # `kind`: a class, or a few words. `order`: the function's arguments in their order.
    article = "an" if kind[0] in "AEIO" else "a"
    expected = kind if " " in kind else f"{article} {kind}"
    subject = f"{name} to be {expected}" if name else expected
    mend = later.suggest(given, kind) or (f"the order is {where}{order}" if order else "")
    # The numbers in a list, for instance, would not help the reader.
    by_type = kind == "tensor" and not mend.startswith("write")
    got = type(given).__name__ if by_type else describe(given)
    return unexpected(where, subject, got, mend)


_PAIRS: Final = {
    "forward": "(y, cache)",
    "backward": "(dx, dparams)",
    "update": "(params, state)",
    "loss.forward": "(value, cache)",
}


def check_functions(kind: str, where: object, **functions: object) -> None:
    """Check that a layer, a loss or an optimizer is made of a name and functions."""
    if not isinstance(where, str):
        raise wrong_kind(kind, "name", where, "the code that makes it")
    for name, function in functions.items():
        if not is_function(function):
            raise wrong_kind(where, name, function, "a function")


def check_not_missing(
    where: str, call: str, names: Sequence[str], arguments: Given, options: ByName
) -> None:
    """Check that a call has the key, and everything else that is required."""
    # A missing key is named first, wherever it stands in `names`.
    missing = [name for name in names[len(arguments) :] if name not in options]
    if not missing:
        return
    given = (*arguments, *options.values())
    if not any(type(value).__name__ == "Key" for value in given):
        missing = ["key"]
    needed = " and ".join(["a key" if name == "key" else name for name in names[-2:]])
    lacks = " and ".join(f"no {name}" for name in missing)
    raise unexpected(where, needed, lacks, f"write {call}") from None


def check_pair(where: str, function: str, given: object) -> None:
    """Check that a layer's forward or backward, a loss's, or an update, has returned a pair."""
    if problem := describe_non_pair(function, given):
        raise LayerError(where, problem)


def describe_non_pair(function: str, given: object) -> str:
    """Say what a function has returned in place of a pair, or "" for a pair."""
    # A tensor with two rows can be unpacked like a pair, too.
    if isinstance(given, tuple) and len(given) == 2:
        return ""
    of = f" of {len(given)}" if isinstance(given, tuple) else ""
    function, pair = function.rpartition(".")[2], _PAIRS[function]
    return f"expected {function} to return {pair}, got a {type(given).__name__}{of}"


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
