"""What all streams share: their type, how they end, and which score is the better."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Literal, TypeAlias

from lincoln_fn.train import StepRecord, TrainState

Stream: TypeAlias = Iterable[tuple[TrainState, StepRecord]]
Mode: TypeAlias = Literal["max", "min"]


@contextmanager
def closing(stream: Stream) -> Iterator[Stream]:
    """Close a stream in the end, if it can be closed: a generator can, a list need not.

    Args:
        stream: what to close.

    Yields:
        The same stream.

    Example:
        >>> steps = (step for step in [1, 2])
        >>> with closing(steps): next(steps)
        1
        >>> list(steps)
        []
    """
    try:
        yield stream
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def check_at_least(where: str, least: int, **numbers: int) -> None:
    """Check that numbers are not too small.

    Args:
        where: the function that was given them.
        least: the least that each may be.
        **numbers: by the argument's name.

    Raises:
        ValueError: if one is below.

    Example:
        >>> check_at_least("logged", 1, every=0)
        Traceback (most recent call last):
        ValueError: logged: expected every of at least 1, got 0
    """
    for name, number in numbers.items():
        if number < least:
            raise ValueError(f"{where}: expected {name} of at least {least}, got {number}")


def check_mode(where: str, mode: str) -> None:
    """Check that a mode is one of the two.

    Args:
        where: the function that was given it.
        mode: what was given.

    Raises:
        ValueError: if it is neither.

    Example:
        >>> check_mode("best", "highest")
        Traceback (most recent call last):
        ValueError: best: expected mode 'max' or 'min', got 'highest'
    """
    if mode not in ("max", "min"):
        raise ValueError(f"{where}: expected mode 'max' or 'min', got {mode!r}")


def is_gain(score: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Tell whether a score is better than the best so far. `nan` never is.

    Args:
        score: the new score.
        best: the best so far; None if there is none.
        mode: whether the highest or the lowest is best.
        min_delta: by how much it has to be better.

    Returns:
        True if it is.

    Example:
        >>> is_gain(0.9, 0.8, "max"), is_gain(0.9, 0.8, "min"), is_gain(0.9, 0.8, "max", 0.2)
        (True, False, False)
    """
    if math.isnan(score):
        return False
    if best is None:
        return True
    return score > best + min_delta if mode == "max" else score < best - min_delta
