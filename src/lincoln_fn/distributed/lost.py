"""The error of a process that is gone, and errors that a process sends to others, as JSON."""

from __future__ import annotations

from typing import Final

from lincoln_fn.core import LayerError, NonFiniteError

_ERRORS: Final = {"LayerError": LayerError, "NonFiniteError": NonFiniteError}
ENCODED: Final = 2048  # bytes that are enough for an error
_LONGEST: Final = ENCODED // 5  # characters of a text; of two, each may become two bytes


class LostProcessError(ConnectionError):
    """A process of the group has ended, or has not answered in time.

    Args:
        ranks: the processes that are gone; () if it is not known which.
        cause: what torch reported.
    """

    def __init__(self, ranks: tuple[int, ...], cause: str) -> None:
        super().__init__(ranks, cause)
        self.ranks = ranks
        self.cause = cause

    def __str__(self) -> str:
        if not self.ranks:
            return f"a process of the group has not answered in time: {self.cause}"
        names = ", ".join(map(str, self.ranks))
        gone = f"rank {names} is gone" if len(self.ranks) == 1 else f"ranks {names} are gone"
        return f"{gone}; start the run again from its last checkpoint"


def encode(error: BaseException, rank: int) -> list[object]:
    """Describe an error of a process."""
    if isinstance(error, LostProcessError):
        return ["LostProcessError", error.ranks, _short(error.cause)]
    if isinstance(error, LayerError):
        return [type(error).__name__, _short(error.where), _short(error.problem)]
    return ["LayerError", f"rank {rank}", _short(f"{type(error).__name__}: {error}")]


def _short(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:_LONGEST]


def decode(kind: str, where: str | list[int], problem: str) -> Exception:
    """Make the error that was described."""
    if isinstance(where, list):
        return LostProcessError(tuple(where), problem)
    return _ERRORS.get(kind, LayerError)(where, problem)
