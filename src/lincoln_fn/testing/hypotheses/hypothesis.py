"""A hypothesis: a mistake with a name, as a function from what is known to the wrong gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from enum import IntEnum
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence


class Cost(IntEnum):
    """How much a mistake assumes. The cheapest one that explains a gradient gives it its name."""

    WHOLE = 0  # the whole gradient, or g, is another in one simple way
    FORMULA = 1  # a term or a factor of a formula that is known
    PLACES = 2  # the numbers are right, and in other places
    FACTOR = 3  # a factor of one operation
    NUMBER = 4  # a number that the sizes of the arrays give
    SHAPE = 5  # a sum that the shape shows
    OPERATION = 6  # another derivative of one operation
    OPERAND = 7  # other tensors of forward at one operation
    ANOTHER = 8  # another function, or another value of an array
    FITTED = 9  # numbers or places that are read from the submission


@attrs.frozen(eq=False)
class Guess:
    """What a mistake would have given."""

    # One for each array; None where the mistake says nothing.
    gradients: list[Tensor | None]
    # What the braces of the sentence stand for, or a function that finds it.
    words: dict[str, object] | Callable[[], dict[str, object]] = attrs.field(factory=dict)


Candidates: TypeAlias = Callable[[Evidence], Iterator[Guess]]


@attrs.frozen(eq=False)
class Hypothesis:
    """A mistake."""

    name: str
    sentence: str
    candidates: Candidates
    cost: Cost


def guess_alone(evidence: Evidence, i: int, gradient: Tensor, /, **words: object) -> Guess:
    """Make the guess of one gradient; the mistake says nothing of the others."""
    return Guess([gradient if j == i else None for j in range(len(evidence.expected))], words)


def change_each(change: Callable[[Tensor], Tensor | None]) -> Candidates:
    """Make the candidates of a mistake that changes every gradient in the same way."""

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        yield Guess([change(right) for right in evidence.expected])

    return candidates
