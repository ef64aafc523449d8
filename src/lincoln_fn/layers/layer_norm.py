"""Layer norm: y = (x - mean) / sqrt(var + epsilon) w + b, over the trailing axes of x.

Each row, which is one example's M values on the trailing axes, is normalised by its own mean and
biased variance (Ba, Kiros and Hinton, "Layer Normalization", 2016, equation 4):

    mean = 1/M sum_j x_j
    var = 1/M sum_j (x_j - mean)^2
    rstd = 1 / sqrt(var + epsilon)
    hat x_j = (x_j - mean) rstd
    y_j = hat x_j w_j + b_j

Derivation. The last line gives

    dw_j = sum g_j hat x_j    over the rows
    db_j = sum g_j    over the rows
    d hat x_j = g_j w_j

Each x_k affects every x_hat_j in three ways: directly, through the mean, and through rstd.

    delta_(jk) = {(1, if j = k), (0, otherwise):}
    (d mean) / (dx_k) = 1/M
    (d var) / (dx_k) = 2/M (x_k - mean)    the mean's term vanishes: sum_j (x_j - mean) = 0
    (d rstd) / (dx_k) = -1/2 rstd^3 (d var) / (dx_k) = -1/M rstd^2 hat x_k
    (d hat x_j) / (dx_k) = rstd (delta_(jk) - 1/M) + (x_j - mean) (d rstd) / (dx_k)
    (d hat x_j) / (dx_k) = rstd (delta_(jk) - 1/M - 1/M hat x_j hat x_k)

The sum over j, weighted by dL/dx_hat_j, has one term for each of the three:

    dx_k = rstd (d hat x_k - mean_j(d hat x_j) - hat x_k mean_j(d hat x_j hat x_j))

The last two terms remove from dL/dx_hat its components along the constant vector and along x_hat.
In these two directions x can change without changing x_hat (in the second, up to epsilon).

Cache: x_hat in x's dtype; rstd, one number per row, for half precision in float32.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Key, Layer, NonNegative, Rows, Sizes, bare, constructor, record, static
from lincoln_fn.layers.common import normalisation
from lincoln_fn.layers.common.inputs import NormalizedShape, trailing_sizes


@record
class Params:
    """The scale and the shift, one number for each position in a row, or None."""

    weight: Float[Tensor, "*row"] | None
    bias: Float[Tensor, "*row"] | None


@record
class Cache:
    x_hat: Rows
    rstd: Float[Tensor, "*batch_and_ones"]
    axes: int = static()


def init(
    key: Key, x: Rows, *, normalized_shape: int | Sizes, elementwise_affine: bool, bias: bool
) -> Params:
    """Make a weight of ones and a bias of zeros for inputs like x."""
    sizes = trailing_sizes("layer_norm", None, x, normalized_shape)
    return Params(*normalisation.first_affine(key, x, sizes, elementwise_affine, bias))


def forward(
    params: Params, x: Rows, *, normalized_shape: int | Sizes, eps: float
) -> tuple[Rows, Cache]:
    """Compute y = x_hat w + b with x_hat = (x - mean) rstd, row by row."""
    axes = len(trailing_sizes("layer_norm", params, x, normalized_shape))
    y, x_hat, rstd, *_ = normalisation.normalised(params, x, tuple(range(-axes, 0)), eps)
    return y, Cache(x_hat, rstd, axes)


def backward(params: Params, cache: Cache, g: Rows) -> tuple[Rows, Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dw and db."""
    row = tuple(range(g.ndim - cache.axes, g.ndim))
    return normalisation.normalised_backward(params, cache.x_hat, cache.rstd, g, row, row)


def terms(params: Params, cache: Cache, g: Tensor) -> Params:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over what shares them in example n."""
    row = tuple(range(g.ndim - cache.axes, g.ndim))
    return normalisation.affine_terms(params, cache.x_hat, g, row)


@constructor(kind="norm", terms=terms)
def layer_norm(
    normalized_shape: NormalizedShape = -1, eps: NonNegative = 1e-5,
    elementwise_affine: bool = True, bias: bool = True,
) -> Layer:  # fmt: skip
    """Normalise each row, over the trailing axes of x: y = (x - mean) / sqrt(var + eps) w + b.

    x is of shape (..., *normalized_shape), with any number of leading axes; y is of x's shape.

    Args:
        normalized_shape: the sizes of the trailing axes; -1 takes the example input's size. The
            default is the last axis; (-1, -1) is the last two.
        elementwise_affine: whether there is a weight.

    Example:
        >>> layer_norm(elementwise_affine=False).predict(Params(None, None), torch.tensor([1.0, 3]))
        tensor([-1.0000,  1.0000])
    """
    return bare(Layer, forward, backward, init)
