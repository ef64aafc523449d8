"""RMS norm: y = x / sqrt(mean(x^2) + epsilon) (o + w), over the trailing axes of x.

Each row, which is one example's M values on the trailing axes, is divided by its root mean square:
layer norm without the mean (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019,
equation 4):

    rstd = 1 / sqrt(1/M sum_j x_j^2 + epsilon)
    hat x_j = x_j rstd
    y_j = hat x_j (o + w_j)

The offset o is a constant: 0 in most networks, 1 in Gemma, where w is the scale's distance from 1.

Derivation. The last line gives

    dw_j = sum g_j hat x_j    over the rows
    d hat x_j = g_j (o + w_j)

Each x_k affects x_hat_j directly, where j = k, and through rstd.

    delta_(jk) = {(1, if j = k), (0, otherwise):}
    (d rstd) / (dx_k) = -1/2 rstd^3 2/M x_k = -1/M rstd^2 hat x_k
    (d hat x_j) / (dx_k) = rstd delta_(jk) + x_j (d rstd) / (dx_k)
    (d hat x_j) / (dx_k) = rstd (delta_(jk) - 1/M hat x_j hat x_k)

The sum over j, weighted by dL/dx_hat_j, is

    dx_k = rstd (d hat x_k - hat x_k mean_j(d hat x_j hat x_j))

bfloat16 and float16 are computed in float32, because sums of their squares are inaccurate.

Cache: x_hat in x's dtype; rstd, one number per row, for half precision in float32; the offset.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Key, Layer, NonNegative, Rows, Sizes, bare, constructor, record, static
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import NormalizedShape, trailing_sizes
from lincoln_fn.layers.common.normalisation import mean_over, scale_and_shift, widened


@record
class Params:
    """The scale without the offset, one number for each position in a row, or None."""

    weight: Float[Tensor, "*row"] | None


@record
class Cache:
    x_hat: Rows
    rstd: Float[Tensor, "*batch_and_ones"]
    axes: int = static()
    offset: float = static()


def init(
    key: Key, x: Rows, *, normalized_shape: int | Sizes, elementwise_affine: bool, offset: float
) -> Params:
    """Make a weight for inputs like x, with which the scale is 1."""
    sizes = trailing_sizes("rms_norm", None, x, normalized_shape)
    ones, _ = normalisation.first_affine(key, x, sizes, elementwise_affine, bias=False)
    return Params(ones - offset if ones is not None and offset else ones)


def forward(
    params: Params, x: Rows, *, normalized_shape: int | Sizes, eps: float | None, offset: float
) -> tuple[Rows, Cache]:
    """Compute y = x_hat (o + w) with x_hat = x rstd, row by row."""
    axes = len(trailing_sizes("rms_norm", params, x, normalized_shape))
    wide = widened(x)
    eps = torch.finfo(wide.dtype).eps if eps is None else eps
    rstd = (mean_over(wide.square(), tuple(range(-axes, 0))) + eps).rsqrt()
    x_hat = wide * rstd
    y = scale_and_shift(x_hat, scale(params, offset))
    return y.to(x.dtype), Cache(x_hat.to(x.dtype), rstd, axes, offset)


def backward(params: Params, cache: Cache, g: Rows) -> tuple[Rows, Params]:
    """Compute dx = rstd (dx_hat - x_hat mean(dx_hat x_hat)) and dw = sum of g x_hat."""
    x_hat, dy, rows = widened(cache.x_hat), widened(g), g.ndim - cache.axes
    dx_hat = scale_and_shift(dy, scale(params, cache.offset))
    dx = cache.rstd * (dx_hat - x_hat * mean_over(dx_hat * x_hat, tuple(range(rows, g.ndim))))
    weight, shared = params.weight, tuple(range(rows))
    dw = None if weight is None else normalisation.weight_gradient(dy, x_hat, weight, shared)
    return dx.to(g.dtype), Params(dw)


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dw_n = sum of g x_hat, over what shares w in example n."""
    row = tuple(range(g.ndim - cache.axes, g.ndim))
    return normalisation.affine_terms(params, cache.x_hat, g, row)


@constructor(kind="norm", terms=terms)
def rms_norm(
    normalized_shape: NormalizedShape = -1, eps: NonNegative | None = None,
    elementwise_affine: bool = True, offset: float = 0.0,
) -> Layer:  # fmt: skip
    """Divide each row by its root mean square: y = x / sqrt(mean(x^2) + eps) (offset + w).

    x is of shape (..., *normalized_shape), with any number of leading axes; y is of x's shape.

    Args:
        normalized_shape: the sizes of the trailing axes, -1 for x's own; (-1, -1) is the last two.
        eps: added to the mean square; None for the machine epsilon of the dtype of the computation.
        elementwise_affine: whether there is a weight w; without one, the scale is 1.
        offset: added to the weight, which begins at 1 - offset: 0, or 1 as in Gemma, where weight
            decay moves the scale towards 1.

    Example:
        >>> rms_norm(elementwise_affine=False).predict(Params(None), torch.tensor([1.0, 7.0]))
        tensor([0.2000, 1.4000])
    """
    return bare(Layer, forward, backward, init)


def scale(params: Params, offset: float) -> Float[Tensor, "*row"] | None:
    """Compute o + w, in float32 for a weight in half precision; None if there is no weight."""
    weight = params.weight
    return widened(weight) + offset if weight is not None and offset else weight
