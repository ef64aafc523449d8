"""The exact numbers' rules on floats."""

import math

import numpy as np

from lincoln_fn.testing.exact.field import Field


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
