"""RMS norm: y = x / sqrt(mean(x^2) + eps) * weight, over the trailing axes of x.

Each row, which is one example's M values on the trailing axes, is divided by its root mean square;
layer norm without the mean (Zhang and Sennrich, "Root Mean Square Layer Normalization", 2019,
equation 4).

Derivation. For one row, with rstd = 1 / sqrt(mean_j(x_j^2) + eps) and x_hat_j = x_j rstd,

    y_j = x_hat_j w_j,   so   dL/dw_j = sum over rows of g_j x_hat_j

and dL/dx_hat_j = g_j w_j, written dx_hat_j. Each x_k acts on x_hat_j by itself and through rstd:

    drstd/dx_k    = -1/2 rstd^3 2 x_k / M      = -rstd^2 x_hat_k / M
    dx_hat_j/dx_k = rstd d_jk + x_j drstd/dx_k = rstd (d_jk - x_hat_j x_hat_k / M)

with d_jk = 1 where j = k, else 0, and the sum over j, weighted by dx_hat_j, is

    dx_k = rstd (dx_hat_k - x_hat_k mean_j(dx_hat_j x_hat_j)).

bfloat16 and float16 are computed in float32, for their squares sum badly. Cache: x and rstd.
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
    """The scale, one number for each place in a row; None for a layer without."""

    weight: Float[Tensor, "*row"] | None


@record
class Cache:
    """The input, 1 / root mean square of each of its rows, and how many axes make a row."""

    x: Float[Tensor, "*batch *row"]
    rstd: Float[Tensor, "*batch *ones"]
    axes: int = static()


def init(
    key: Key, x: Float[Tensor, "*batch *row"], *, normalized_shape: Sizes, elementwise_affine: bool
) -> Params:
    """Make a weight of ones for inputs like x.

    Args:
        key: ignored.
        x: an example input, of which only shape, dtype and device count.
        normalized_shape: the sizes of the trailing axes, -1 standing for x's own.
        elementwise_affine: whether there is a weight.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor with such trailing axes.
    """
    check_input("rms_norm", (), x)
    sizes = trailing_sizes("rms_norm", x, normalized_shape, None)
    return Params(first_affine(x, sizes, weight=elementwise_affine, bias=False)[0])


def forward(
    params: Params,
    x: Float[Tensor, "*batch *row"],
    *,
    normalized_shape: Sizes = (-1,),
    eps: float | None = None,
) -> tuple[Float[Tensor, "*batch *row"], Cache]:
    """Compute y = x / sqrt(mean(x^2) + eps) * weight, row by row.

    Args:
        params: the weight.
        x: of shape (..., *normalized_shape), any number of leading axes.
        normalized_shape: the sizes of the trailing axes, -1 standing for any size.
        eps: added to the mean square; None for the machine epsilon of the dtype computed in.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of that shape with the weight's dtype and device,
            or params are another layer's.

    Example:
        >>> forward(Params(None), torch.tensor([[1.0, 7.0]]))[0]
        tensor([[0.2000, 1.4000]])
    """
    check_input("rms_norm", params, x, Params)
    axes = len(trailing_sizes("rms_norm", x, normalized_shape, params.weight))
    wide = _widened(x)
    if eps is None:
        eps = torch.finfo(wide.dtype).eps
    mean_square = wide.square().mean(tuple(range(-axes, 0)), keepdim=True)
    rstd = mean_square.add_(eps).rsqrt_()
    x_hat = wide * rstd
    y = x_hat if params.weight is None else x_hat * params.weight
    return y.to(x.dtype), Cache(x, rstd, axes)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "*batch *row"]
) -> tuple[Float[Tensor, "*batch *row"], Params]:
    """Compute dx = rstd (dx_hat - x_hat mean(dx_hat x_hat)) and dweight = sum of g x_hat.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and dparams.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> params = Params(None)
        >>> _, cache = forward(params, torch.tensor([[1.0, 7.0]]))
        >>> backward(params, cache, torch.tensor([[1.0, 0.0]]))[0]
        tensor([[ 0.1960, -0.0280]])
    """
    check_params("rms_norm", params, Params)
    check_cache("rms_norm", cache, Cache)
    check_cotangent("rms_norm", g, cache.x)
    weight, rstd, row = params.weight, cache.rstd, tuple(range(-cache.axes, 0))
    x_hat, wide_g = _widened(cache.x) * rstd, _widened(g)
    dx_hat = wide_g if weight is None else wide_g * weight
    dx = rstd * (dx_hat - x_hat * (dx_hat * x_hat).mean(row, keepdim=True))
    if weight is None:
        return dx.to(g.dtype), Params(None)
    dweight = (wide_g * x_hat).sum_to_size(weight.shape)
    return dx.to(g.dtype), Params(dweight.to(weight.dtype))


def _widened(x: Tensor) -> Tensor:
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x
