"""Difference, quotient and larger of two inputs of one shape, element by element: y = f(a, b).

Derivation. y depends on one a and one b:

    da = g    db = -g    for subtract, y = a - b
    da = g / b    db = -g a / b^2 = -g y / b    for divide, y = a / b
    da = g [a > b] + 1/2 g [a = b]    db = g - da    for maximum, y = max(a, b)

where [a > b] is 1 if a > b, else 0. Where a = b, both get half of g, as in torch: the mean of the
slopes on the two sides.

Cache: a and b where dx needs them, and y for divide; else a stand-in of their shape.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final, NamedTuple, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import Elements, Layer, bare, constructor, declare, record, unexpected
from lincoln_fn.layers.common.inputs import check_inputs, check_one_shape

Pair: TypeAlias = tuple[Elements, Elements]


class Formula(NamedTuple):
    """y of (a, b); da and db of (g, a, b, y); and which of a, b and y are cached."""

    y: Callable[[Tensor, Tensor], Tensor]
    dx: Callable[..., Pair]
    keeps: str


@record
class Cache:
    """a, b and y; a stand-in for each whose values dx does not need."""

    a: Elements
    b: Elements
    y: Elements


def _divide_dx(g: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Pair:
    da = g / b
    return da, -da * y


def _maximum_dx(g: Tensor, a: Tensor, b: Tensor, y: Tensor) -> Pair:
    half = torch.where(a == b, g / 2, 0)
    return torch.where(a > b, g, half), torch.where(a < b, g, half)


FORMULAS: Final = {
    "subtract": Formula(torch.subtract, lambda g, a, b, y: (g, -g), ""),
    "divide": Formula(torch.divide, _divide_dx, "by"),
    "maximum": Formula(torch.maximum, _maximum_dx, "ab"),
}


def forward(params: tuple[()], x: Pair, *, function: str) -> tuple[Elements, Cache]:
    """Compute y = f(a, b)."""
    check_inputs(function, x)
    if len(x) != 2:
        raise unexpected(function, "x to be (a, b)", f"{len(x)} tensors")
    check_one_shape(function, x)
    a, b = x
    formula = FORMULAS[function]
    y = formula.y(a, b)
    shape = y.new_zeros(()).expand(y.shape)
    kept = dict(zip("aby", (a, b, y), strict=True))
    return y, Cache(**{name: kept[name] if name in formula.keeps else shape for name in kept})


declare(forward, kind="other", mask="position")


def forward_of_shares(params: tuple[()], x: Pair, *, function: str) -> tuple[Elements, Cache]:
    """Compute y = f(a, b), of which a da/dy + b db/dy is the whole."""
    return forward(params, x, function=function)


declare(forward_of_shares, kind="addition")


def backward(
    params: tuple[()], cache: Cache, g: Elements, *, function: str
) -> tuple[Pair, tuple[()]]:
    """Compute da and db."""
    return FORMULAS[function].dx(g, cache.a, cache.b, cache.y), ()


@constructor
def subtract() -> Layer:
    """Subtract the second input from the first: y = a - b.

    x is (a, b), of one shape, which y has too. `broadcast_tensors` makes different shapes equal.

    Example:
        >>> subtract().predict((), (torch.tensor([5.0]), torch.tensor([3.0])))
        tensor([2.])
    """
    return _layer(forward_of_shares, "subtract")


@constructor
def divide() -> Layer:
    """Divide the first of two inputs by the second: y = a / b, with x = (a, b) of one shape.

    Example:
        >>> divide().predict((), (torch.tensor([6.0]), torch.tensor([3.0])))
        tensor([2.])
    """
    return _layer(forward, "divide")


@constructor
def maximum() -> Layer:
    """Take the larger of x = (a, b), of one shape: y = max(a, b). If equal, each gets half of g.

    Example:
        >>> maximum().predict((), (torch.tensor([1.0, 5.0]), torch.tensor([2.0, 3.0])))
        tensor([2., 5.])
    """
    return _layer(forward_of_shares, "maximum")


def _layer(there: Callable[..., tuple[Tensor, Cache]], function: str) -> Layer:
    return bare(Layer, partial(there, function=function), partial(backward, function=function))
