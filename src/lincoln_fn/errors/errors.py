"""Errors that name the layer, what it expected, and what it was given.

A layer's functions check their arguments once. A combinator adds the position of the part that
raised an error: `serial[2] dense(10): expected ...`.
"""

from __future__ import annotations


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
        return f"{self.where}: {self.problem}"


class NonFiniteError(LayerError):
    """A `nan` or an infinity, with the first layer whose output has it."""

    __module__ = "lincoln_fn"


def place(error: LayerError, position: str, name: str) -> LayerError:
    """Add the position of a part in a composition to an error that it raised."""
    # A part that is a composition has already named a position. A single layer has only its bare
    # name, which is replaced by the full one.
    is_composition = "[" in error.where.partition("(")[0]
    return type(error)(f"{position} {error.where if is_composition else name}", error.problem)
