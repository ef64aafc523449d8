"""A line search: how far to go along a direction.

Along a direction, the loss is a function f of the distance t, of slope f'. The search ends at a t
that meets the strong Wolfe conditions,

    f(t) <= f(0) + c1 t f'(0)        the loss has fallen enough,
    |f'(t)| <= -c2 f'(0)             and its slope is small enough.

First t grows until an interval has such a point in it. Then the interval shrinks around it. Each t
is the least place of the cubic polynomial that has the value and the slope of both ends.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, NamedTuple

from torch import Tensor

C1: Final = 1e-4
C2: Final = 0.9


class Point(NamedTuple):
    """A place on the line: how far it is, the loss there, its gradient and its slope."""

    t: float
    value: float
    gradient: Tensor
    slope: float


def search(
    at: Callable[[float], Point], start: Point, t: float, *, least: float, most: int
) -> tuple[Point, int]:
    """Find a point that meets the strong Wolfe conditions, and count those that were computed.

    It is the lowest end of the interval if `most` points after the first have none that does, or if
    the interval gets shorter than `least`. `start` is the point at 0, of negative slope; t is the
    first distance.
    """
    previous, new = start, at(t)
    for i in range(most):
        if _is_high(new, start) or (i > 1 and new.value >= previous.value):
            break
        if abs(new.slope) <= -C2 * start.slope:
            return new, i + 1
        if new.slope >= 0:
            break
        bounds = new.t + 0.01 * (new.t - previous.t), 10 * new.t
        previous, new = new, at(_least_of_cubic(previous, new, bounds))
    else:
        return _lowest(start, new)[0], most + 1
    point, computed = _shrink(at, start, (previous, new), least=least, most=most - i)
    return point, computed + i + 1


def _shrink(
    at: Callable[[float], Point],
    start: Point,
    ends: tuple[Point, Point],
    *,
    least: float,
    most: int,
) -> tuple[Point, int]:
    """Shrink an interval around a point that meets the conditions."""
    low, high = _lowest(*ends)
    was_near_an_end = False
    for i in range(most):
        first, last = sorted((low.t, high.t))
        if last - first < least:
            return low, i
        t, margin = _least_of_cubic(low, high, (first, last)), 0.1 * (last - first)
        is_near = min(last - t, t - first) < margin
        # The second time in a row, or at the very end, the point moves away from the end.
        if is_near and (was_near_an_end or not first < t < last):
            t, is_near = (last - margin if last - t < t - first else first + margin), False
        was_near_an_end = is_near
        new = at(t)
        if _is_high(new, start) or new.value >= low.value:
            low, high = _lowest(low, new)
            continue
        if abs(new.slope) <= -C2 * start.slope:
            return new, i + 1
        if new.slope * (high.t - low.t) >= 0:
            high = low
        low = new
    return low, most


def _is_high(point: Point, start: Point) -> bool:
    """Return whether the loss has not fallen enough, or is not a number."""
    return not point.value <= start.value + C1 * point.t * start.slope


def _lowest(a: Point, b: Point) -> tuple[Point, Point]:
    return (b, a) if b.value < a.value else (a, b)


def _least_of_cubic(a: Point, b: Point, bounds: tuple[float, float]) -> float:
    """Find the least place of the cubic polynomial through two points; the middle if none."""
    a, b = (a, b) if a.t <= b.t else (b, a)
    mean = a.slope + b.slope - 3 * (a.value - b.value) / (a.t - b.t)
    square = mean**2 - a.slope * b.slope
    if not square >= 0:  # nor nan
        return sum(bounds) / 2
    rise = math.sqrt(square)
    divisor = b.slope - a.slope + 2 * rise
    if divisor == 0:
        return sum(bounds) / 2
    t = b.t - (b.t - a.t) * ((b.slope + rise - mean) / divisor)
    return min(max(t, bounds[0]), bounds[1])
