"""Arithmetic modulo a prime.

P = 2 Q + 1 with Q prime, so odd roots are unique. P = 3 mod 4, so the root of a square is one power
of it, and is itself a square: roots of products are products of roots. The primes up to 31 are
squares, so sqrt(2) or 1 / sqrt(30) are numbers of the field. A product of two fits in int64.

Functions that are not algebraic are pseudo-random functions of their argument, with the laws that
gradients use. Each number z carries a partner, generator^turn factor, which is e^z:

    e^(a + b) = e^a e^b    turns are added, factors are multiplied
    e^(log z) = z    log z is a pseudo-random number with the factor z
    cos^2 z + sin^2 z = 1    the point of the circle at a pseudo-random parameter
    erf z    a pseudo-random odd function

A new number's partner is a pseudo-random odd function of its value: e^(-z) = 1 / e^z.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import lru_cache
from typing import Any, Final, TypeAlias

import numpy as np

P: Final = 2146664519
Q: Final = (P - 1) // 2
# A number as it is written has so many digits, and a fraction or a root so many bits.
DIGITS, BITS, ULPS = 9, 36, 4
LARGEST_OF_FRACTION: Final = 1000
FREE: Final = "of some roots r of z only dr = dz / (2 r), or r dz / (2 z), is used"
TIE: Final = "two numbers that are compared are equal by chance: a tie or a kink"
READ: Final = "a number was read, and is a constant from there on"

# Any: numpy's types of arrays say less than "of int64" or "of float64".
Array = Any
Bilinear: TypeAlias = Callable[[Array, Array], Array]


class MissingError(Exception):
    """An operation that exact numbers have no rule for."""


class Field:
    """The integers modulo P, with pseudo-random functions.

    Args:
        free: how the derivative of the root r of a non-square z is written: dz / (2 r), or, if it
            is True, r dz / (2 z). Such an r has no other property.
        other: whether to draw others for such r.
        stops: whether `detach` stops a derivative.
    """

    dtype: Final = np.int64

    def __init__(
        self, seed: int, *, free: bool = False, other: bool = False, stops: bool = False
    ) -> None:
        self.seed, self.free, self.other, self.stops = seed, free, other, stops
        # Remarks on what was computed.
        self.notes: set[str] = set()
        self._random = np.random.default_rng(seed)
        self._salt, generator, root = (int(each) for each in self._random.integers(2, P, 3))
        self._generator, self._root_of_pi = generator**2 % P, root**2 % P

    def again(self) -> Field:
        """Make the field that draws the same once more."""
        return type(self)(self.seed, free=self.free, other=self.other, stops=self.stops)

    def draw(self, shadow: Array) -> Array:
        """Draw the values of numbers that stand for any."""
        # As of reals, those above 0 are the squares: so sqrt(z^2) is z or -z by the sign.
        drawn = self._random.integers(1, P, np.shape(shadow)) ** 2 % P
        return np.where(np.less(shadow, 0), P - drawn, drawn)

    def direction(self, shape: tuple[int, ...]) -> Array:
        """Draw tangents."""
        return self._random.integers(1, P, shape)

    def reduce(self, a: Array) -> Array:
        """Bring a sum or a product back into the field."""
        return a % P

    def power(self, base: Array, exponent: Array) -> Array:
        """Compute powers by squaring."""
        return power(base, exponent)

    def inverse(self, a: Array) -> Array:
        """Compute 1 / a; that of 0 is 0."""
        return power(a, P - 2)

    def turn(self, value: Array) -> Array:
        """Draw the partner of a new number."""
        return self._odd(value, 1) % Q

    def bilinear(self, of: Bilinear, a: Array, b: Array) -> Array:
        """Multiply matrices, or convolve: by float64 products of halves of 16 bits."""
        # Their sums are whole numbers below 2^53, whatever order they are added in.
        (high, low), (up, down) = (
            ((m >> 16).astype(float), (m & 65535).astype(float)) for m in (a, b)
        )
        pairs = (high, up), (high, down), (low, up), (low, down)
        top, *middle, bottom = (np.rint(of(*pair)).astype(np.int64) % P for pair in pairs)
        return (((top << 16) + sum(middle)) % P * 65536 + bottom) % P

    def exp(self, turn: Array, factor: Array, value: Array) -> Array:
        """Compute e^z from its partner."""
        made = power(np.full(np.shape(turn), self._generator, np.int64), turn)
        return made * factor % P

    def log(self, value: Array) -> Array:
        """Draw log z; log 1 = 0."""
        return np.where(value == 1, 0, self._odd(value, 2) % P)

    def root(self, value: Array) -> tuple[Array, Array]:
        """Compute r = sqrt(z) and dr/dz."""
        r = power(value, (P + 1) // 4)
        is_free = r * r % P != value
        if is_free.any():
            self.notes.add(FREE)
            r = np.where(is_free, self._odd(value, 6 if self.other else 3) % P, r)
        slope = self.inverse(2 * r % P)
        return r, np.where(is_free & self.free, r * self.inverse(2 * value % P) % P, slope)

    def rational(self, value: Array, over: int, under: int) -> Array:
        """Compute z^(over / under), for an odd root."""
        return power(value, over * pow(under, -1, P - 1))

    def erf(self, value: Array) -> Array:
        """Draw erf z."""
        return self._odd(value, 4) % P

    def rotation(self, value: Array) -> tuple[Array, Array]:
        """Draw cos z and sin z."""
        u = self._odd(value, 5) % P
        below = self.inverse(1 + u * u % P)
        return (1 - u * u) % P * below % P, 2 * u * below % P

    def number(self, c: float) -> int:
        """Find what a float stands for: a decimal, a fraction, a root, one of pi; else itself."""
        if not math.isfinite(c):
            return 0
        over, under, radicand, of_pi = meaning(c)
        value = over % P * pow(under, -1, P) % P
        if radicand != 1:
            value = value * pow(radicand, (P + 1) // 4, P) % P
        return value * pow(self._root_of_pi, of_pi, P) % P

    def _odd(self, value: Array, which: int) -> Array:
        """Draw a number from 1 - Q to Q - 1 for each value, as an odd function."""
        value = np.asarray(value)
        size = np.minimum(value, P - value)
        x = np.atleast_1d(size).astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        x = x + np.uint64(self._salt * which % (1 << 64))
        for shift, times in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB), (31, 1)):
            x = (x ^ (x >> np.uint64(shift))) * np.uint64(times)
        drawn = (x % np.uint64(Q - 1)).astype(np.int64).reshape(value.shape) + 1
        return np.where(value == 0, 0, np.where(size == value, drawn, -drawn))


def power(base: Array, exponent: Array) -> Array:
    """Compute powers modulo P by squaring."""
    result = np.ones(np.broadcast_shapes(np.shape(base), np.shape(exponent)), np.int64)
    if isinstance(exponent, int):
        exponent %= P - 1
        while exponent:
            result = result * base % P if exponent & 1 else result
            base, exponent = base * base % P, exponent >> 1
        return result
    exponent = exponent % (P - 1)
    while exponent.any():
        result = np.where(exponent & 1, result * base % P, result)
        base, exponent = base * base % P, exponent >> 1
    return result


@lru_cache(maxsize=1 << 16)
def meaning(c: float) -> tuple[int, int, int, int]:
    """Write a float as (p / q) sqrt(m) sqrt(pi)^k, and return p, q, m and k."""
    exact = Fraction(c)
    if simple := _decimal(c) or _complement(c) or _simple(c):
        return simple.numerator, simple.denominator, 1, 0
    for of_pi in (0, 1, -1, 2, -2):
        squared = _simple(c * c / math.pi**of_pi)
        if squared is None:
            continue
        radicand = squared.numerator * squared.denominator
        # Only what has a root in the field, such as a product of small primes.
        if pow(radicand, Q, P) == 1:
            return -1 if c < 0 else 1, squared.denominator, radicand, of_pi
    return exact.numerator, exact.denominator, 1, 0


def _decimal(c: float) -> Fraction | None:
    """Read an integer, or a number of few digits; None if it has more."""
    if c.is_integer():
        return Fraction(c)
    written = repr(c).partition("e")[0].replace(".", "").strip("-0")
    return Fraction(repr(c)) if len(written) <= DIGITS else None


def _complement(c: float) -> Fraction | None:
    """Read 1 - b of a decimal b, such as 1 - 0.999, in which digits cancel; None if it is none."""
    size = abs(c)
    rest = _decimal(1 - size)
    if rest is None or not 0 < rest < 1 or 1 - float(rest) != size:
        return None
    return 1 - rest if c > 0 else rest - 1


def _simple(c: float) -> Fraction | None:
    """Find the simplest fraction beside a float; None if a float would have one by chance."""
    width = ULPS * Fraction(math.ulp(c))
    low, high = Fraction(abs(c)) - width, Fraction(abs(c)) + width
    if low <= 0:
        return None
    # The simplest fraction between two numbers, by their continued fractions.
    whole: list[int] = []
    while low.numerator // low.denominator == high.numerator // high.denominator != low:
        n = low.numerator // low.denominator
        whole.append(n)
        low, high = 1 / (high - n), 1 / (low - n)
    found = Fraction(math.ceil(low))
    for n in reversed(whole):
        found = n + 1 / found
    if found.numerator.bit_length() + found.denominator.bit_length() > BITS:
        return None
    return found if c > 0 else -found


def small_ratio(pairs: Sequence[tuple[Array, Array]]) -> Fraction | None:
    """Find the fraction c of small numbers with b = c a modulo P, in every pair (a, b)."""
    if not all(a for a, _ in pairs):
        return None
    ratios = {int(b) * pow(int(a), -1, P) % P for a, b in pairs}
    if len(ratios) > 1:
        return None
    # By Euclid's algorithm.
    (before, over), (outer, under) = (P, ratios.pop()), (0, 1)
    while over > LARGEST_OF_FRACTION:
        quotient = before // over
        before, over = over, before - quotient * over
        outer, under = under, outer - quotient * under
    return Fraction(over, under) if abs(under) <= LARGEST_OF_FRACTION else None
