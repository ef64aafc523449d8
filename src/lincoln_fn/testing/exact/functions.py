"""Functions of exact numbers, each with its derivative.

Those with a derivative of their own stand here, beside sum, product and quotient (`numbers`); all
others are written by them.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial

import numpy as np

from lincoln_fn.testing.exact.field import Bilinear, P, meaning
from lincoln_fn.testing.exact.numbers import Number, Numbers, compare


def power(z: Numbers, exponent: Number) -> Numbers:
    """Compute z^c, of a number or of each its own."""
    if isinstance(exponent, Numbers) and not exponent.shape and not exponent.tangent.any():
        exponent = float(exponent.shadow)
    if not isinstance(exponent, Numbers):
        return _rational(z, float(exponent))
    made = exp(exponent * log(z))
    made.shadow = z.shadow**exponent.shadow
    return made


def _rational(z: Numbers, exponent: float) -> Numbers:
    """Compute z^(p / q): a root if q is even, then the unique one of the odd rest."""
    field, shadow = z.field, z.shadow**exponent
    over, under, *irrational = meaning(exponent)
    if not over:
        return z * 0 + 1
    if irrational != [1, 0] or under > P:
        return exp(log(z) * exponent)
    while under % 2 == 0:
        z, under = sqrt(z), under // 2
    value, slope = (field.rational(z.value, over - less, under) for less in (0, under))
    slope = field.reduce(slope * field.number(over / under))
    return Numbers(field, shadow, value, field.reduce(slope * z.tangent))


def exp(z: Numbers) -> Numbers:
    """Compute e^z; that of -inf is 0."""
    field = z.field
    with np.errstate(all="ignore"):
        value = field.exp(z.turn, z.factor, z.value)
    is_zero = z.shadow == -math.inf
    value = np.where(is_zero, np.zeros((), field.dtype), value)
    slope = field.reduce(value * np.where(is_zero, np.zeros((), field.dtype), z.tangent))
    return Numbers(field, np.exp(z.shadow), value, slope)


def log(z: Numbers) -> Numbers:
    """Compute log z, whose partner is z itself."""
    field, value = z.field, z.field.log(z.value)
    tangent = field.reduce(z.tangent * field.inverse(z.value))
    zeros = np.zeros(np.shape(value), np.int64)
    return Numbers(field, np.log(z.shadow), value, tangent, zeros, z.value)


def sqrt(z: Numbers) -> Numbers:
    """Compute the square root."""
    value, slope = z.field.root(z.value)
    return Numbers(z.field, np.sqrt(z.shadow), value, z.field.reduce(slope * z.tangent))


def erf(z: Numbers) -> Numbers:
    """Compute erf z, with the derivative 2 / sqrt(pi) e^(-z^2)."""
    slope = exp(-(z * z)) * (2 / math.sqrt(math.pi))
    shadow = np.vectorize(math.erf, otypes=[float])(z.shadow)
    return Numbers(z.field, shadow, z.field.erf(z.value), z.field.reduce(slope.value * z.tangent))


def rotation(z: Numbers) -> tuple[Numbers, Numbers]:
    """Compute cos z and sin z."""
    field, (c, s) = z.field, z.field.rotation(z.value)
    along = field.reduce(s * z.tangent)
    return (
        Numbers(field, np.cos(z.shadow), c, field.reduce(-along)),
        Numbers(field, np.sin(z.shadow), s, field.reduce(c * z.tangent)),
    )


def bilinear(of: Bilinear, a: Numbers, b: Numbers) -> Numbers:
    """Multiply matrices, or convolve."""
    field = a.field
    parts = (a.value, b.tangent), (a.tangent, b.value), (a.value, b.value)
    one, other, value = (field.bilinear(of, *part) for part in parts)
    return Numbers(field, of(a.shadow, b.shadow), value, field.reduce(one + other))


def sigmoid(z: Numbers) -> Numbers:
    """Compute 1 / (1 + e^(-z))."""
    return 1 / (exp(-z) + 1)


def tanh(z: Numbers) -> Numbers:
    """Compute 1 - 2 / (e^(2 z) + 1)."""
    return 1 - 2 / (exp(z * 2) + 1)


def absolute(z: Numbers) -> Numbers:
    """Compute |z|."""
    return z.where(compare(np.greater_equal, z, z.like(0.0)), -z)


def folded(z: Numbers, axis: int, of: Callable[[Numbers, Numbers], Numbers]) -> Numbers:
    """Accumulate along an axis."""
    parts = [z.map(partial(np.take, indices=i, axis=axis)) for i in range(z.shape[axis])]
    for i in range(1, len(parts)):
        parts[i] = of(parts[i - 1], parts[i])
    columns = zip(*(part.columns for part in parts), strict=True)
    return Numbers(z.field, *(np.stack(each, axis) for each in columns))
