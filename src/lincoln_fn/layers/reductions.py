"""Sums over axes and their kin: y is one number of all elements x_1, ..., x_N along the axes.

Derivation. dx_i = g dy/dx_i, with

    (dy)/(dx_i) = 1    for sum, y = sum_i x_i
    (dy)/(dx_i) = 1 / N    for mean, y = 1/N sum_i x_i
    (dy)/(dx_i) = {(1 / k, if x_i = y), (0, otherwise):}    for amax, y = max_i x_i
    (dy)/(dx_i) = sign(x_i) (|x_i| / y)^(p - 1)    for norm, y = (sum_i |x_i|^p)^(1/p)

where k elements of amax are the largest and share g equally, as in torch. That keeps the sum of
dx equal to g, and no order of the elements counts. The norm's slope is that of y^p = sum_i |x_i|^p,

    p y^(p-1) (dy)/(dx_i) = p |x_i|^(p-1) sign(x_i)

It has a kink where all x_i are 0; the slope there is 0, as in torch.

Cache: x and y where the slope needs them, else stand-ins of their shapes; and the axes.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Annotated, Final, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, Reduced, bare, constructor, record, static, unexpected
from lincoln_fn.layers.common.inputs import Dims, axes_of, with_axes
from lincoln_fn.layers.common.normalisation import norm_over


class Formula(NamedTuple):
    """y of (x, axes, *numbers), its axes kept; dx of (g, x, y, axes, *numbers), likewise."""

    y: Callable[..., Tensor]
    dx: Callable[..., Tensor]
    reads: bool  # whether dx reads the values of x and y


@record
class Cache:
    """The input and y with its axes kept, or stand-ins; the axes, and whether y has them; p."""

    x: Elements
    y: Float[Tensor, "*reduced_or_1"]
    axes: tuple[int, ...] = static()
    keepdim: bool = static()
    numbers: tuple[float, ...] = static()


def _mean_dx(g: Tensor, x: Tensor, y: Tensor, axes: tuple[int, ...]) -> Tensor:
    return (g * (y.numel() / max(x.numel(), 1))).expand(x.shape)


def _amax_dx(g: Tensor, x: Tensor, y: Tensor, axes: tuple[int, ...]) -> Tensor:
    is_largest = (x == y).to(g.dtype)
    return g * is_largest / is_largest.sum(axes, keepdim=True)


def _norm_dx(g: Tensor, x: Tensor, y: Tensor, axes: tuple[int, ...], p: float) -> Tensor:
    return g * x.sign() * (x.abs() / torch.where(y == 0, 1, y)).pow(p - 1)


FORMULAS: Final = {
    "sum": Formula(
        lambda x, axes: x.sum(axes, keepdim=True), lambda g, x, y, axes: g.expand(x.shape), False
    ),
    "mean": Formula(lambda x, axes: x.mean(axes, keepdim=True), _mean_dx, False),
    "amax": Formula(lambda x, axes: x.amax(axes, keepdim=True), _amax_dx, True),
    "norm": Formula(lambda x, axes, p: norm_over(x, p, axes).to(x.dtype), _norm_dx, True),
}


def forward(
    params: tuple[()], x: Elements, *, function: str, dim: Dims, keepdim: bool,
    numbers: tuple[float, ...] = (),
) -> tuple[Reduced, Cache]:  # fmt: skip
    """Compute y of all elements along the axes."""
    axes = axes_of(function, x, dim)
    if function == "amax" and x.numel() == 0:
        raise unexpected(function, "at least one element", f"shape {tuple(x.shape)}")
    formula = FORMULAS[function]
    kept = formula.y(x, axes, *numbers)
    y = kept if keepdim else kept.squeeze(axes)
    zero = x.new_zeros(())
    seen = (x, kept) if formula.reads else (zero.expand(x.shape), zero.expand(kept.shape))
    return y, Cache(*seen, axes, keepdim, numbers)


# They have f(c x) = c f(x) for c > 0, so that sum_i x_i dy/dx_i = y.
core.declare(forward, kind="average", along="axes")


def backward(
    params: tuple[()], cache: Cache, g: Reduced, *, function: str
) -> tuple[Elements, tuple[()]]:
    """Compute dx_i = g dy/dx_i."""
    y, axes = cache.y, cache.axes
    core.check_cotangent(function, g, y, tuple((y if cache.keepdim else y.squeeze(axes)).shape))
    g = g if cache.keepdim else with_axes(g, axes)
    return FORMULAS[function].dx(g, cache.x, y, axes, *cache.numbers), ()


def _layer(function: str, *numbers: float) -> Layer:
    there = partial(forward, function=function, numbers=numbers)
    return bare(Layer, there, partial(backward, function=function))


@constructor
def sum(dim: Dims = None, *, keepdim: bool = False) -> Layer:
    """Add up elements: y = sum_i x_i.

    x has any shape; y has that of x without the axes dim, None for all. The batch is axis 0.

    Example:
        >>> sum(1).predict((), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([3., 7.])
    """
    return _layer("sum")


@constructor
def mean(dim: Dims = None, *, keepdim: bool = False) -> Layer:
    """Average elements: y = 1/N sum_i x_i. The shapes are those of `sum`.

    Example:
        >>> mean(0).predict((), torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
        tensor([2., 3.])
    """
    return _layer("mean")


@constructor
def amax(dim: Dims = None, *, keepdim: bool = False) -> Layer:
    """Take the largest element: y = max_i x_i, without its index, as `torch.amax` does.

    The shapes are those of `sum`. Several largest elements share the gradient equally.

    Example:
        >>> amax(1, keepdim=True).predict((), torch.tensor([[1.0, 2.0], [4.0, 3.0]]))
        tensor([[2.],
                [4.]])
    """
    return _layer("amax")


@constructor
def norm(
    p: Annotated[float, core.at_least(1)] = 2.0, dim: Dims = None, *, keepdim: bool = False
) -> Layer:
    """Measure the length of vectors: y = (sum_i |x_i|^p)^(1/p).

    The shapes are those of `sum`. Where all x_i are 0, dx is 0.

    Args:
        p: the exponent, at least 1; 2 gives the Euclidean length.

    Example:
        >>> norm(dim=1).predict((), torch.tensor([[3.0, 4.0], [0.0, 2.0]]))
        tensor([5., 2.])
    """
    return _layer("norm", p)
