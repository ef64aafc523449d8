"""Layer norm: y = (x - mean) / sqrt(var + eps) * weight + bias, over the trailing axes of x.

Each row, which is one example's M values on the trailing axes, is normalised by its own mean and
biased variance (Ba, Kiros and Hinton, "Layer Normalization", 2016, equation 4).

Derivation. For one row, with rstd = 1 / sqrt(var + eps) and x_hat_j = (x_j - mean) rstd,

    y_j = x_hat_j w_j + b_j,   so   dL/dw_j = sum over rows of g_j x_hat_j,   dL/db_j = sum of g_j

and dL/dx_hat_j = g_j w_j, written dx_hat_j. Each x_k acts on every x_hat_j in three ways: itself,
through the mean, and through rstd. With d_jk = 1 where j = k, else 0,

    dmean/dx_k    = 1 / M
    dvar/dx_k     = 2 (x_k - mean) / M         the mean's share vanishes: sum_j (x_j - mean) = 0
    drstd/dx_k    = -1/2 rstd^3 dvar/dx_k      = -rstd^2 x_hat_k / M
    dx_hat_j/dx_k = rstd (d_jk - 1/M) + (x_j - mean) drstd/dx_k
                  = rstd (d_jk - 1/M - x_hat_j x_hat_k / M)

and the sum over j, weighted by dx_hat_j, has one term for each of the three:

    dx_k = rstd (dx_hat_k - mean_j(dx_hat_j) - x_hat_k mean_j(dx_hat_j x_hat_j)).

The last two terms take from dx_hat what lies along the constant and along x_hat, the two directions
in which x can move without moving x_hat (the second up to eps). Cache: x, and mean and rstd, one
number a row; x_hat is cheaper made again than kept.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.layers._normalisation import Sizes, first_affine, trailing_sizes
from lincoln_fn.record import record, static
from lincoln_fn.shapes import check_cache, check_cotangent, check_input, check_params


@record
class Params:
    """The scale and the shift, one number for each place in a row; None for a layer without."""

    weight: Float[Tensor, "*row"] | None
    bias: Float[Tensor, "*row"] | None


@record
class Cache:
    """The input, its rows' mean and rstd, and how many axes make a row."""

    x: Float[Tensor, "*batch *row"]
    mean: Float[Tensor, "*batch *ones"]
    rstd: Float[Tensor, "*batch *ones"]
    axes: int = static()


def init(
    key: Key,
    x: Float[Tensor, "*batch *row"],
    *,
    normalized_shape: Sizes,
    elementwise_affine: bool,
    bias: bool,
) -> Params:
    """Make a weight of ones and a bias of zeros for inputs like x.

    Args:
        key: ignored.
        x: an example input, of which only shape, dtype and device count.
        normalized_shape: the sizes of the trailing axes, -1 standing for x's own.
        elementwise_affine: whether there is a weight.
        bias: whether there is a bias beside the weight.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor with such trailing axes.
    """
    check_input("layer_norm", (), x)
    sizes = trailing_sizes("layer_norm", x, normalized_shape, None)
    weighted = elementwise_affine
    return Params(*first_affine(x, sizes, weight=weighted, bias=weighted and bias))


def forward(
    params: Params,
    x: Float[Tensor, "*batch *row"],
    *,
    normalized_shape: Sizes = (-1,),
    eps: float = 1e-5,
) -> tuple[Float[Tensor, "*batch *row"], Cache]:
    """Compute y = (x - mean) / sqrt(var + eps) * weight + bias, row by row.

    Args:
        params: weight and bias.
        x: of shape (..., *normalized_shape), any number of leading axes.
        normalized_shape: the sizes of the trailing axes, -1 standing for any size.
        eps: added to the variance.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of that shape with the weight's dtype and device,
            or params are another layer's.

    Example:
        >>> forward(Params(None, None), torch.tensor([[1.0, 3.0]]))[0]
        tensor([[-1.0000,  1.0000]])
    """
    check_input("layer_norm", params, x, Params)
    sizes = trailing_sizes("layer_norm", x, normalized_shape, params.weight)
    y, mean, rstd = torch.ops.aten.native_layer_norm(x, sizes, params.weight, params.bias, eps)
    return y, Cache(x, mean, rstd, len(sizes))


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch *row"]
) -> tuple[Float[Tensor, "*batch *row"], Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dweight and dbias.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> params = Params(None, None)
        >>> _, cache = forward(params, torch.tensor([[1.0, 3.0, 3.0]]))
        >>> backward(params, cache, torch.ones(1, 3))[0].abs().max() < 1e-6
        tensor(True)
    """
    check_params("layer_norm", params, Params)
    check_cache("layer_norm", cache, Cache)
    check_cotangent("layer_norm", g, cache.x)
    weight, bias = params.weight, params.bias
    dx, dweight, dbias = torch.ops.aten.native_layer_norm_backward(
        g,
        cache.x,
        cache.x.shape[cache.x.ndim - cache.axes :],
        cache.mean,
        cache.rstd,
        weight,
        bias,
        [True, weight is not None, bias is not None],
    )
    return dx, Params(dweight, dbias)
