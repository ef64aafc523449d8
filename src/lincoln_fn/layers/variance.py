"""Variance along axes: y = 1/(N - c) sum_i (x_i - mu)^2, with the mean mu of the N elements.

Derivation. With z_i = x_i - mu,

    (dz_i)/(dx_j) = delta_(ij) - 1/N
    (dy)/(dx_j) = 2/(N - c) sum_i z_i (delta_(ij) - 1/N) = 2/(N - c) (z_j - 1/N sum_i z_i)

and since sum_i z_i = 0, the mean's share vanishes:

    dx_j = g 2/(N - c) z_j

A computed mean is rounded, and the sum of z would be N times its error. So the mean of z is
subtracted from z, and half precision is converted to float32.

Cache: z, the axes, and 2 / (N - c).
"""

from __future__ import annotations

from math import prod

from lincoln_fn import core
from lincoln_fn.core import Elements, Layer, NonNegativeInt, Reduced, bare, record, static
from lincoln_fn.layers.common.inputs import Dims, axes_of, with_axes
from lincoln_fn.layers.common.normalisation import statistics, widened


@record
class Cache:
    z: Elements
    y: Reduced
    axes: tuple[int, ...] = static()
    keepdim: bool = static()
    factor: float = static()


def forward(
    params: tuple[()], x: Elements, *, dim: Dims, correction: int, keepdim: bool
) -> tuple[Reduced, Cache]:
    """Compute y = 1/(N - c) sum_i (x_i - mu)^2."""
    axes = axes_of("variance", x, dim)
    n = prod(x.shape[axis] for axis in axes)
    if n <= correction:
        expected = f"more than {correction} elements"
        raise core.unexpected("variance", expected, f"{n} for correction={correction}")
    z, _, _ = statistics(widened(x), axes)
    y = (z.square().sum(axes, keepdim=keepdim) / (n - correction)).to(x.dtype)
    return y, Cache(z, x.new_zeros(()).expand(y.shape), axes, keepdim, 2 / (n - correction))


def backward(params: tuple[()], cache: Cache, g: Reduced) -> tuple[Elements, tuple[()]]:
    """Compute dx_j = g 2/(N - c) z_j."""
    g = g if cache.keepdim else with_axes(g, cache.axes)
    return (g * cache.factor * cache.z).to(g.dtype), ()


@core.constructor(kind="other", along="axes")
def variance(dim: Dims = None, *, correction: NonNegativeInt = 1, keepdim: bool = False) -> Layer:
    """Measure how far elements are from their mean: y = 1/(N - c) sum_i (x_i - mu)^2.

    x has any shape; y has that of x without the axes dim, None for all. It is `torch.var`.

    Args:
        correction: c. 1 divides by N - 1, Bessel's correction; 0 by N, as norms do.

    Example:
        >>> variance(1).predict((), torch.tensor([[1.0, 3.0], [2.0, 2.0]]))
        tensor([2., 0.])
    """
    return bare(Layer, forward, backward)
