"""The exact numbers' rules on floats, held against central differences."""

import math

import numpy as np
import torch

from helpers.compare import same_number
from lincoln_fn.testing.exact.field import Field, P


class Reals(Field):
    """Floats with the functions of the field: its rules are formulas of them, then."""

    dtype = np.float64

    def draw(self, shadow):
        return np.asarray(shadow, float)

    def direction(self, shape):
        return self._random.standard_normal(shape)

    def reduce(self, a):
        return a

    def power(self, base, exponent):
        return np.power(base, exponent)

    def inverse(self, a):
        return 1 / a

    def turn(self, value):
        return np.zeros(np.shape(value), np.int64)

    def bilinear(self, of, a, b):
        return of(a, b)

    def exp(self, turn, factor, value):
        return np.exp(value)

    def log(self, value):
        return np.log(value)

    def root(self, value):
        r = np.sqrt(value)
        return r, 1 / (2 * r)

    def rational(self, value, over, under):
        return np.sign(value) * np.abs(value) ** (over / under) if under > 1 else value**over

    def erf(self, value):
        return np.vectorize(math.erf, otypes=[float])(value)

    def rotation(self, value):
        return np.cos(value), np.sin(value)

    def number(self, c):
        return c


def tensor(array):
    is_tensor = isinstance(array, torch.Tensor)
    return array.double() if is_tensor else torch.from_numpy(np.array(array, float))


def check_on_reals(function, given, directions, made):
    """Hold what a function makes on `Reals`, along directions, against its floats."""
    step = 1e-6
    ahead, behind = (
        tensor(function(*(x + sign * step * d for x, d in zip(given, directions, strict=True))))
        for sign in (1, -1)
    )
    slope = (ahead - behind) / (2 * step)
    expected = tensor(function(*given))
    assert same_number((tensor(made.value), tensor(made.shadow)), (expected, expected), error=1e-12)
    assert same_number(tensor(made.tangent), slope, terms=slope.abs().max().item() + 1, error=1e-7)


def check_in_the_field(function, given, made):
    """Hold the shadows of what a function makes in the field against its floats."""
    assert same_number(tensor(made.shadow), tensor(function(*given)), error=1e-12)
    assert all(((each >= 0) & (each < P)).all() for each in (made.value, made.tangent, made.factor))
