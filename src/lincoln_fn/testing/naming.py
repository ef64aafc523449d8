"""The names of the mistakes in wrong gradients."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

import attrs
import torch
from torch import Tensor

from lincoln_fn.testing.diagnosis import TOLERANCE
from lincoln_fn.testing.entries import allowed
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.oracles import is_reached
from lincoln_fn.testing.purity import not_finite

if TYPE_CHECKING:
    from lincoln_fn.testing.hypotheses import Guess, Hypothesis

# A guess is as exact as the submission, unless the right gradient is from differences.
SAME = 1e-6


@attrs.frozen
class Mistake:
    """What is wrong with a gradient."""

    # "" if no hypothesis explains it.
    name: str
    # What follows the name of the gradient.
    sentence: str


def name_mistakes(evidence: Evidence, wrong: Collection[int]) -> dict[int, Mistake]:
    """Find the hypotheses that explain wrong gradients."""
    # Right code on a kink is judged, too, and does not import the hypotheses.
    from lincoln_fn.testing.hypotheses import HYPOTHESES

    found = {i: plain for i in wrong if (plain := _plain(evidence, i))}
    for hypothesis in HYPOTHESES:
        # One mistake may be made twice, in other words: another of g's axes, another of the uses.
        while left := [i for i in wrong if i not in found]:
            try:
                named = _named_by(hypothesis, evidence, left)
            except Exception:  # a hypothesis that fails costs a name, and not the verdict
                break
            if not named:
                break
            found |= named
    for i in wrong:
        found.setdefault(i, _unexplained(evidence.given[i], evidence.expected[i]))
    return found


def _plain(evidence: Evidence, i: int) -> Mistake | None:
    """Name what can be seen of the two gradients alone."""
    given, right, at = evidence.given[i], evidence.expected[i], evidence.sample
    if told := not_finite(given):
        return Mistake("not finite", told)
    if right.numel() and not given.numel():
        shapes = f"shape {tuple(given.shape)}, expected {tuple(right.shape)}"
        slices = "a slice such as pad:-pad takes nothing where pad is 0"
        return Mistake("empty slice", f"is empty: {shapes}; {slices}")
    is_zero = given.shape == right.shape and not bool(right.any())
    # Behind a dead ReLU the right gradient is zero, too, and the mistake has a name of its own.
    if is_zero and not is_reached(at.forward, at.arrays, i, at.g):
        return Mistake("forward ignores it", "should be zero: forward does not depend on it")
    return None


def _named_by(hypothesis: Hypothesis, evidence: Evidence, left: list[int]) -> dict[int, Mistake]:
    """Name the gradients that one guess of a hypothesis explains."""
    best, explained = _best(hypothesis, evidence, left)
    if best is None:
        return {}
    words = best.words() if callable(best.words) else best.words
    sentence = hypothesis.sentence.format(**words)
    if words.get("code"):
        sentence += f" (in `{words['code']}`)"
    return {i: Mistake(hypothesis.name, sentence) for i in explained}


def _best(
    hypothesis: Hypothesis, evidence: Evidence, left: list[int]
) -> tuple[Guess | None, list[int]]:
    """Return the guess that explains the most gradients."""
    best: Guess | None = None
    explained: list[int] = []
    for guess in hypothesis.candidates(evidence):
        these = [i for i in left if _explains(guess, evidence, i)]
        if len(these) > len(explained):
            best, explained = guess, these
        if len(explained) == len(left):
            break
    return best, explained


def _explains(guess: Guess, evidence: Evidence, i: int) -> bool:
    wrong = guess.gradients[i] if i < len(guess.gradients) else None
    return (
        wrong is not None
        and _same(evidence.given[i], wrong, SAME, evidence.expected[i])
        and not _same(wrong, evidence.expected[i], TOLERANCE, evidence.expected[i])
    )


def _same(given: Tensor, wrong: Tensor, tolerance: float, right: Tensor) -> bool:
    if given.shape != wrong.shape or not given.numel():
        return False
    # Rounding errors of what cancels are not zero, but small beside the right gradient.
    least = 1e-6 * float(right.abs().max())
    size = max(float(given.abs().max()), float(wrong.abs().max()), least)
    return bool((given - wrong).abs().max() <= tolerance * size)


def _unexplained(given: Tensor, right: Tensor) -> Mistake:
    if given.shape == right.shape and not bool(right.any()):
        return Mistake("forward is flat", "should be zero here: forward does not change near x")
    return Mistake("", unnamed(given, right))


def unnamed(given: Tensor, expected: Tensor) -> str:
    """Say where a gradient is wrong, if nothing says why."""
    if given.shape != expected.shape:
        return f"has shape {tuple(given.shape)}, expected {tuple(expected.shape)}"
    place = worst_place(given, expected)
    error = (given - expected).abs()
    # The worst place counts as wrong, whatever the tolerance.
    wrong = max(1, int((error > allowed(expected)).sum()))
    count = f"wrong in {wrong} of {error.numel()} places"
    values = f"{given[place].item():.6g} at {list(place)}, expected {expected[place].item():.6g}"
    return f"is {count}, a term missing or wrong: {values}"


def worst_place(given: Tensor, expected: Tensor) -> tuple[int, ...]:
    """Return the place where two tensors of one shape differ most."""
    worst = (given - expected).abs().nan_to_num(torch.inf).argmax()
    return tuple(int(i) for i in torch.unravel_index(worst, given.shape))
