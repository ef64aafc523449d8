"""Compare what examples print with what they promise: numbers up to their rounding errors."""

import doctest
import re

import torch

from helpers.compare import same_number

FLOAT = re.compile(r"(-?(?:\d+\.\d*|\d+(?=e))(?:e[-+]?\d+)?)")


def same_printed(given, expected):
    """Compare two texts; floats are off by rounding errors, or by one in the last printed digit.

    So 5.0000 is 5., and spaces do not count, which differ with it. A number that is 0 but for its
    rounding errors is no such number: examples print none.
    """
    ours, theirs = FLOAT.split(given), FLOAT.split(expected)
    words = (["".join(text.split()) for text in parts[::2]] for parts in (ours, theirs))
    return next(words) == next(words) and all(map(_same_float, ours[1::2], theirs[1::2]))


def _same_float(given, expected):
    last = min(_last_digit(given), _last_digit(expected))
    given, expected = float(given), float(expected)
    is_near = abs(given - expected) <= 1.001 * last
    return is_near or bool(same_number(given, expected, dtype=torch.float32))


def _last_digit(printed):
    digits, _, exponent = printed.partition("e")
    return 10.0 ** (int(exponent or 0) - len(digits.partition(".")[2]))


class Checker(doctest.OutputChecker):
    """A checker of doctests whose numbers are off by rounding errors."""

    def check_output(self, want, got, optionflags):
        return super().check_output(want, got, optionflags) or same_printed(got, want)
