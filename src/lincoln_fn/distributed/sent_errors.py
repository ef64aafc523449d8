"""Errors that one process sends to others, as what JSON can express."""

from __future__ import annotations

from typing import Any, Final

from lincoln_fn.core import LayerError, NonFiniteError
from lincoln_fn.distributed.lost import LostProcessError

_ERRORS: Final = {"LayerError": LayerError, "NonFiniteError": NonFiniteError}
_LONGEST: Final = 409  # characters of a text, so that 2048 bytes have room for two and their quotes


def encode(error: BaseException, rank: int) -> list[Any]:  # Any: what JSON can express
    """Describe an error of a process."""
    if isinstance(error, LostProcessError):
        return ["LostProcessError", error.ranks, _short(error.cause)]
    if isinstance(error, LayerError):
        return [type(error).__name__, _short(error.where), _short(error.problem)]
    return ["LayerError", f"rank {rank}", _short(f"{type(error).__name__}: {error}")]


def _short(text: str) -> str:
    return text.encode("ascii", "replace").decode()[:_LONGEST]


def decode(kind: str, where: Any, problem: str) -> Exception:  # Any: as `encode` makes it
    """Make the error that was described."""
    if kind == "LostProcessError":
        return LostProcessError(tuple(where), problem)
    return _ERRORS.get(kind, LayerError)(where, problem)
