"""Elementary functions of each element: y = f(x).

Derivation. Each y depends on one x alone, so dx = g f'(x). Some f' are shorter in y:

    (dy)/(dx) = e^x = y    for exp, y = e^x
    (dy)/(dx) = 1 / x    for log, y = ln x
    (dy)/(dx) = 1/2 x^(-1/2) = 1 / (2 y)    for sqrt, y = x^(1/2)
    (dy)/(dx) = p x^(p - 1)    for power, y = x^p
    (dy)/(dx) = -1 / x^2 = -y^2    for reciprocal, y = 1 / x
    (dy)/(dx) = cos x    for sin
    (dy)/(dx) = -sin x    for cos
    (dy)/(dx) = {(1, if x > 0), (0, if x = 0), (-1, if x < 0):}    for absolute, y = |x|
    (dy)/(dx) = {(1, if a <= x <= b), (0, otherwise):}    for clamp, y = min(max(x, a), b)
    (dy)/(dx) = 1    for shift, y = x + c

The slopes at the kinks of |x| and of clamp are torch's. sqrt has an infinite slope at 0, and so has
x^p with 0 < p < 1. x^0 is 1 everywhere, with slope 0.

Cache: x or y, whichever the slope needs, and the numbers p, a, b and c.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, Literal, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Bound, Elements, Layer, bare, constructor, record, require, static

Numbers: TypeAlias = tuple[float | None, ...]


class Formula(NamedTuple):
    """y of x and numbers; dx of g, what is cached, and numbers; and what is cached."""

    y: Callable[..., Tensor]
    dx: Callable[..., Tensor]
    keeps: Literal["x", "y", "shape"]


@record
class Cache:
    """The input, the output, or a stand-in of their shape; and the numbers."""

    kept: Elements
    numbers: Numbers = static()


def _power_dx(g: Tensor, x: Tensor, p: float) -> Tensor:
    return g * p * x.pow(p - 1) if p else torch.zeros_like(g)


FORMULAS: Final = {
    "exp": Formula(torch.exp, lambda g, y: g * y, "y"),
    "log": Formula(torch.log, lambda g, x: g / x, "x"),
    "sqrt": Formula(torch.sqrt, lambda g, y: g / (2 * y), "y"),
    "power": Formula(torch.pow, _power_dx, "x"),
    "reciprocal": Formula(torch.reciprocal, lambda g, y: -g * y * y, "y"),
    "sin": Formula(torch.sin, lambda g, x: g * torch.cos(x), "x"),
    "cos": Formula(torch.cos, lambda g, x: -g * torch.sin(x), "x"),
    "absolute": Formula(torch.abs, lambda g, x: g * torch.sign(x), "x"),
    "clamp": Formula(torch.clamp, lambda g, x, a, b: torch.where(x.clamp(a, b) == x, g, 0), "x"),
    "shift": Formula(torch.add, lambda g, _, c: g, "shape"),
}


def forward(
    params: tuple[()], x: Elements, *, function: str, numbers: Numbers = ()
) -> tuple[Elements, Cache]:
    """Compute y = f(x)."""
    formula = FORMULAS[function]
    y = formula.y(x, *numbers)
    kept = {"x": x, "y": y}.get(formula.keeps)
    return y, Cache(x.new_zeros(()).expand(x.shape) if kept is None else kept, numbers)


core.declare(forward, kind="activation")


def backward(
    params: tuple[()], cache: Cache, g: Elements, *, function: str
) -> tuple[Elements, tuple[()]]:
    """Compute dx = g f'(x)."""
    return FORMULAS[function].dx(g, cache.kept, *cache.numbers), ()


def _layer(function: str, *numbers: float | None) -> Layer:
    there = partial(forward, function=function, numbers=numbers)
    return bare(Layer, there, partial(backward, function=function))


@constructor
def exp() -> Layer:
    """Raise e to the power of each element: y = e^x.

    Example:
        >>> exp().predict((), torch.tensor([0.0, 1.0]))
        tensor([1.0000, 2.7183])
    """
    return _layer("exp")


@constructor
def log() -> Layer:
    """Take the natural logarithm of each element: y = ln x.

    x has any shape, and y has the same: -inf where x is 0, and nan where x is below 0.

    Example:
        >>> log().predict((), torch.tensor([1.0, 2.0]))
        tensor([0.0000, 0.6931])
    """
    return _layer("log")


@constructor
def sqrt() -> Layer:
    """Take the square root of each element: y = x^(1/2).

    x has any shape, and y has the same: nan where x is below 0. At 0 the slope is infinite.

    Example:
        >>> sqrt().predict((), torch.tensor([4.0, 9.0]))
        tensor([2., 3.])
    """
    return _layer("sqrt")


@constructor
def power(exponent: float) -> Layer:
    """Raise each element to a fixed power p, the exponent: y = x^p, as `torch.pow` with a number.

    y is nan where x is below 0 and p is not a whole number.

    Example:
        >>> power(2).predict((), torch.tensor([-3.0, 2.0]))
        tensor([9., 4.])
    """
    return _layer("power", exponent)


@constructor
def reciprocal() -> Layer:
    """Take the reciprocal of each element: y = 1 / x.

    Example:
        >>> reciprocal().predict((), torch.tensor([2.0, -4.0]))
        tensor([ 0.5000, -0.2500])
    """
    return _layer("reciprocal")


@constructor
def sin() -> Layer:
    """Take the sine of each element, in radians.

    Example:
        >>> sin().predict((), torch.tensor([0.0, 1.0]))
        tensor([0.0000, 0.8415])
    """
    return _layer("sin")


@constructor
def cos() -> Layer:
    """Take the cosine of each element, in radians.

    Example:
        >>> cos().predict((), torch.tensor([0.0, 1.0]))
        tensor([1.0000, 0.5403])
    """
    return _layer("cos")


@constructor
def absolute() -> Layer:
    """Take the absolute value of each element: y = |x|. At 0 the slope is 0, as in torch.

    Example:
        >>> absolute().predict((), torch.tensor([-3.0, 2.0]))
        tensor([3., 2.])
    """
    return _layer("absolute")


@constructor
def clamp(min: Bound | None = None, max: Bound | None = None) -> Layer:  # noqa: A002  # torch's
    """Keep each element within bounds: y = min(max(x, low), high).

    At a bound the slope is 1, as in `torch.clamp`; that of `hardtanh` is 0 there.

    Args:
        min: the smallest value of y; None for no bound.
        max: the largest value of y, not below min; None for no bound. One of the two is needed.

    Example:
        >>> clamp(min=0.0).predict((), torch.tensor([-3.0, 2.0]))
        tensor([0., 2.])
    """
    require(not min is max is None, "clamp", "min or max", (min, max))
    require(min is None or max is None or min <= max, "clamp", "min not above max", (min, max))
    return _layer("clamp", min, max)


@constructor
def shift(amount: float) -> Layer:
    """Add a fixed number c, the amount, to each element: y = x + c.

    `scale` multiplies by a fixed number.

    Example:
        >>> shift(-1.0).predict((), torch.tensor([1.0, 3.0]))
        tensor([0., 2.])
    """
    return _layer("shift", amount)
