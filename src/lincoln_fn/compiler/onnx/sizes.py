"""Numbers of a traced step that depend on the number of examples in a batch.

A step is traced for batches of fixed sizes. What differs between two such graphs depends on the
batch: a size is `scale * n + offset` for n examples, and a factor of a mean is `numerator / n`.
Both are found from two batch sizes, and a third one has to agree.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TypeAlias

import attrs


@attrs.frozen
class Affine:
    """The integer scale * n + offset, of n examples."""

    scale: int
    offset: int

    def at(self, n: int) -> int:
        """Compute it for n examples."""
        return self.scale * n + self.offset


@attrs.frozen
class Reciprocal:
    """The number constant + 1 / (scale * n + offset), of n examples.

    The constant is 0 for a mean, and 1 for Bessel's correction m / (m - 1) = 1 + 1 / (m - 1).
    """

    constant: float
    scale: float
    offset: float

    def at(self, n: int) -> float:
        """Compute it for n examples."""
        return self.constant + 1 / (self.scale * n + self.offset)


Size: TypeAlias = int | Affine
Number: TypeAlias = bool | int | float | Affine | Reciprocal


def fit(values: Sequence[object], batches: Sequence[int], error: float = 1e-12) -> object:
    """Find what gives these values at these numbers of examples; the first two are fitted.

    Args:
        values: one for each number of examples.
        batches: these numbers.
        error: the relative error of the values.

    Raises:
        ValueError: if the values are no numbers, or nothing here gives all of them.
    """
    first = values[0]
    if all(_are_equal(first, value) for value in values):
        return first
    second = values[1]
    if not all(isinstance(value, int | float) for value in values):
        raise ValueError(f"{values} for batches of {tuple(batches)}")
    assert isinstance(first, int | float)
    assert isinstance(second, int | float)
    if isinstance(first, int) and isinstance(second, int):
        scale, rest = divmod(second - first, batches[1] - batches[0])
        affine = Affine(scale, first - scale * batches[0])
        if rest == 0 and [affine.at(n) for n in batches] == list(values):
            return affine
    numbers = [float(value) for value in values if isinstance(value, int | float)]
    for constant in (0.0, 1.0):
        if constant in numbers:
            continue
        below = [1 / (number - constant) for number in numbers]
        slope = (below[1] - below[0]) / (batches[1] - batches[0])
        offset = below[0] - slope * batches[0]
        fitted = Reciprocal(constant, _round(slope, 1e3 * error), _round(offset, 1e3 * error))
        values_of_fit = [fitted.at(n) for n in batches]
        if all(
            math.isclose(a, b, rel_tol=error) for a, b in zip(values_of_fit, numbers, strict=True)
        ):
            return fitted
    raise ValueError(f"{values} for batches of {tuple(batches)}")


def _are_equal(a: object, b: object) -> bool:
    return type(a) is type(b) and (a == b or (a != a and b != b))


def _round(x: float, error: float) -> float:
    """Remove the rounding error of what is a whole number."""
    is_whole = math.isclose(x, round(x), rel_tol=error, abs_tol=error)
    return float(round(x)) if is_whole else x
