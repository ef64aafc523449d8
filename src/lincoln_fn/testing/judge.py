"""Which gradients are wrong, when a plain comparison failed: kinks, ties and digits considered.

Next to every kink the function is smooth. So a gradient is judged at points close by, where no tie
and no kink is left: what is wrong there is a mistake. What is right there may still differ from an
oracle at x itself. On a kink any value between the slopes around is right, and the place is left
out; elsewhere it is a mistake.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import Key, LayerError, keys
from lincoln_fn.testing.diagnosis import TOLERANCE, GradientError, Verdict, close
from lincoln_fn.testing.evidence import Evidence
from lincoln_fn.testing.oracles import scales
from lincoln_fn.testing.point import (
    DETACHED,
    Comparison,
    compare,
    detaches,
    floor,
    is_finite,
    leaves_torch,
    matches,
    one_sided,
    truth,
)
from lincoln_fn.testing.sample import Sample

# How far the points close by are, in parts of each value.
DISTANCE = 1e-3
# By which those are multiplied for points nearer to x.
NEARER = 1e-3
PAIRS = 2
# So many points that agree decide.
ENOUGH = 2
# Above this part of the largest gradient, a change between points close by is a kink.
KINK = 0.05
LOOKED_AT = 20
# Of more numbers than these, differences for each take long.
MOST_DIFFERENCES = 300

FEW_DIGITS = "the oracles see too few digits, or nan"

Places = tuple[tuple[int, ...], ...]
Gradients = list[Tensor] | None


@attrs.frozen(eq=False)
class Judgement:
    """The verdict on each gradient."""

    verdicts: list[Verdict]
    # By gradient, the places on a kink.
    left_out: list[Places]
    # None if no gradient is wrong.
    evidence: Evidence | None
    remarks: list[str]


def judge(at: Sample, key: Key, named: frozenset[str] = frozenset()) -> Judgement:
    """Judge the gradients of a sample; of those whose mistake has a name, at x alone."""
    close_by = _close_by(at, key)
    judgement = _judged(at, key, close_by, named)
    is_in_doubt = "wrong" in judgement.verdicts or not close_by
    if is_in_doubt and any(bool((a == 0).any() and (a >= 0).all()) for a in at.arrays):
        # Probabilities and variances end at zero, where forward may be another function.
        inside = _judged(at, key, _close_by(at, key, inside=True))
        return inside if "wrong" not in inside.verdicts else judgement
    return judgement


def _judged(
    at: Sample, key: Key, close_by: list[Sample], named: frozenset[str] = frozenset()
) -> Judgement:
    points, here = close_by or [at], at.automatic
    remarks: list[str] = []
    verdicts: list[Verdict] = []
    left_out: list[Places] = []
    wrong_here = False
    nearer = cache(partial(_close_by, at, key, NEARER * DISTANCE, pairs=1))
    for i, name in enumerate(at.names):
        is_named = name in named and compare(at, i, key) == "wrong"
        verdict = "wrong" if is_named else _by_most([at, *close_by], i, key.fold_in(100 + i))
        kinks: Places = ()
        if verdict != "wrong" and close_by:
            around = torch.stack([point.given[i] for point in points])
            kinks, is_wrong = _at_itself(at, i, around, here, nearer)
            if is_wrong:
                verdict, wrong_here = "wrong", True
        if verdict == "right" and here and not close(at.given[i], here[i], floor(at)) and not kinks:
            is_nan = not is_finite(here[i])
            remarks.append(f"{name}: autograd gives nan" if is_nan else DETACHED.format(name))
        if verdict == "right" and here is None and detaches(at) and not leaves_torch(at):
            remarks.append(DETACHED.format(name))
        if verdict == "not judged":
            why = FEW_DIGITS
            auto = points[0].automatic
            if auto and close(points[0].given[i], auto[i]) and detaches(points[0]):
                why = "forward detaches a part, and autograd and differences disagree"
            remarks.append(f"{name} cannot be judged: {why}")
        verdicts.append(verdict)
        left_out.append(kinks)
    evidence = None
    if "wrong" in verdicts and (here or sum(a.numel() for a in at.arrays) <= MOST_DIFFERENCES):
        wrong = {n for n, v in zip(at.names, verdicts, strict=True) if v == "wrong"}
        where = at if wrong_here or wrong <= named else points[0]
        evidence = Evidence(where, truth(where, key))
        for i in range(len(verdicts)):
            if verdicts[i] == "wrong" and _is_doubtful(where, i, evidence.expected[i]):
                verdicts[i] = "not judged"
                remarks.append(f"{at.names[i]} cannot be judged: {FEW_DIGITS}")
    return Judgement(verdicts, left_out, evidence, remarks)


def _is_doubtful(at: Sample, i: int, right: Tensor) -> bool:
    """Return whether a gradient that was found wrong equals the right one all the same."""
    if at.automatic and at.automatic[i] is right:
        return matches(at, i, right)
    return close(at.given[i], right, floor(at))


def _by_most(points: list[Sample], i: int, key: Key) -> Verdict:
    """Judge one gradient by what most points show."""
    shown: list[Comparison] = []
    for n, point in enumerate(points):
        shown.append(compare(point, i, key.fold_in(n)))
        if shown.count("right") == ENOUGH or shown.count("wrong") == ENOUGH:
            break
    if shown.count("wrong") > shown.count("right"):
        return "wrong"
    return "right" if "right" in shown else "not judged"


def _close_by(
    at: Sample, key: Key, distance: float = DISTANCE, *, pairs: int = PAIRS, inside: bool = False
) -> list[Sample]:
    # With `inside`, the numbers stay between the least and the largest of their array.
    found = []
    for n in range(pairs):
        draw = key.fold_in(50 + n)
        moves = [
            distance * scales(array) * _signed(draw.fold_in(i), array)
            for i, array in enumerate(at.arrays)
        ]
        for sign in (1, -1):
            moved = [a + sign * move for a, move in zip(at.arrays, moves, strict=True)]
            if inside:
                moved = list(map(_within, at.arrays, moved))
            try:
                point = at.at(moved)
            except (LayerError, GradientError):  # outside of the layer's domain
                continue
            if all(map(is_finite, point.given)):
                found.append(point)
    return found


def _within(array: Tensor, moved: Tensor) -> Tensor:
    """Reflect numbers at the ends of an array's range."""
    if not array.numel():
        return moved
    low, high = array.min(), array.max()
    moved = low + (moved - low).abs()
    return moved if low == high else high - (high - moved).abs()


def _signed(key: Key, array: Tensor) -> Tensor:
    """Draw numbers from 0.5 to 1.5, with random signs: none is close to 0."""
    drawn = keys.uniform(key.near(array), tuple(array.shape), -1.0, 1.0).to(array.dtype)
    return drawn + torch.where(drawn < 0, -0.5, 0.5)


def _at_itself(
    at: Sample, i: int, around: Tensor, here: Gradients, nearer: Callable[[], list[Sample]]
) -> tuple[Places, bool]:
    """Find the kinks of x, and whether a gradient that is right around x is wrong at x."""
    given, low, high = at.given[i], around.amin(0), around.amax(0)
    if not given.numel() or given.shape != low.shape:
        return (), given.shape != low.shape
    size = around.abs().max()
    is_kink = high - low > KINK * size
    if bool(is_kink.any()):
        # Nearer to x, a smooth change is smaller, and a jump is not.
        near = [point.given[i] for point in nearer()]
        if len(near) > 1:
            is_kink &= (near[0] - near[1]).abs() > KINK * size
    kinks = _places(is_kink)
    auto = here[i] if here else None
    if auto is not None and close(given, auto, floor(at)):
        return kinks, False
    slack = KINK * size * 0.2 + 1e-12
    fits = (given >= low - slack) & (given <= high + slack)
    if auto is not None:
        fits |= ((given - auto).abs() <= TOLERANCE * size) | (given == auto)
    doubtful = _places(~fits & ~is_kink)
    for place in doubtful[:LOOKED_AT]:
        below, above = one_sided(at, i, place)
        value, limit = float(given[place]), 1e-3 * float(size) + 1e-9
        if torch.isnan(given[place]):
            return kinks, True
        if abs(above - below) <= limit and abs(value - below) > 2 * limit:
            return kinks, True
        kinks = (*kinks, place)
    return kinks, bool(given.isnan().any())


def _places(mask: Tensor) -> Places:
    return tuple(tuple(place) for place in mask.nonzero().tolist())


def relative_error(given: Tensor, right: Tensor) -> float:
    """Compute the largest error in multiples of the largest value of the right gradient."""
    if given.shape != right.shape or not right.numel():
        return float("inf")
    size = float(right.abs().max()) or 1.0
    return float((given - right).abs().max()) / size
