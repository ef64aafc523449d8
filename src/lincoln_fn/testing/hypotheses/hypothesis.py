"""A hypothesis: a mistake with a name, as a function from what is known to the wrong gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeAlias

import attrs
from torch import Tensor

from lincoln_fn.testing.evidence import Evidence


@attrs.frozen(eq=False)
class Guess:
    """What a mistake would have given.

    Args:
        gradients: one for each array; None where the mistake says nothing.
        words: what the sentence's braces stand for, or a function that finds it.
    """

    gradients: list[Tensor | None]
    words: dict[str, object] | Callable[[], dict[str, object]] = attrs.field(factory=dict)


Candidates: TypeAlias = Callable[[Evidence], Iterator[Guess]]


@attrs.frozen(eq=False)
class Hypothesis:
    """A mistake.

    Args:
        name: a few words.
        sentence: what is said of the gradient; its words in braces are a guess's.
        candidates: the wrong gradients that the mistake would give.
    """

    name: str
    sentence: str
    candidates: Candidates


def alone(evidence: Evidence, i: int, gradient: Tensor, /, **words: object) -> Guess:
    """Make the guess of one gradient; the mistake says nothing of the others."""
    return Guess([gradient if j == i else None for j in range(len(evidence.expected))], words)


def each(change: Callable[[Tensor], Tensor | None]) -> Candidates:
    """Make the candidates of a mistake that changes every gradient in the same way.

    Example:
        >>> each(lambda right: -right).__name__
        'candidates'
    """

    def candidates(evidence: Evidence) -> Iterator[Guess]:
        yield Guess([change(right) for right in evidence.expected])

    return candidates
