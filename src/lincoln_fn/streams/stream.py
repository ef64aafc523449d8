"""Shared by all streams: their type, how they end, and the error about a missing score."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, TypeAlias, TypeVar

from torch import Tensor

from lincoln_fn.core import LayerError, Range, describe, unexpected, wrong_kind
from lincoln_fn.training import StepRecord, TrainState

Stream: TypeAlias = Iterable[tuple[TrainState, StepRecord]]
# Any text: the range is there for the words of the error.
ScoreName: TypeAlias = Annotated[
    str, Range("that names a score, as evaluated adds it", lambda name: True)
]
T = TypeVar("T", bound=tuple[object, object])


@contextmanager
def closing(
    where: str, stream: Iterable[T], needs: tuple[int, str] = (1, "scores")
) -> Iterator[Iterable[T]]:
    """Close a stream at the end, if it can be closed: a generator can, a list cannot.

    `needs` is which of a pair's values the reader reads, and an attribute of it.
    """
    if not isinstance(stream, Iterable) or isinstance(stream, Tensor | Mapping | str):
        raise wrong_kind(where, "stream", stream, "what train gives")
    try:
        yield _steps(where, stream, needs)
    finally:
        close = getattr(stream, "close", None)
        if close is not None:
            close()


def _steps(where: str, stream: Iterable[T], needs: tuple[int, str]) -> Iterator[T]:
    # Not `yield from`, which would close the stream a second time.
    for i, step in enumerate(stream):
        if i == 0 and not (
            isinstance(step, tuple) and len(step) == 2 and hasattr(step[needs[0]], needs[1])
        ):
            raise unexpected(where, "stream to give (state, record), as train does", describe(step))
        yield step


def no_score(where: str, metric: str, seen: set[str]) -> LayerError:
    """Make the error about a score that no record of a stream has."""
    mend = "" if seen else "evaluated adds them, every so many steps"
    return unexpected(where, f"a record with a score {metric!r}", f"scores {sorted(seen)}", mend)
