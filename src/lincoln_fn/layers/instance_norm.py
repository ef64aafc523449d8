"""Instance norm: y = (x - mean) / sqrt(var + eps) * weight + bias, each channel of each example.

Every example's every channel is normalised by the mean and biased variance over its own places
(Ulyanov, Vedaldi and Lempitsky, "Instance Normalization", 2016, equation 4).

Derivation. It is group norm with one channel a group, so that with rstd = 1 / sqrt(var + eps),
x_hat = (x - mean) rstd and dx_hat = g weight the three terms are those derived in
`layers/layer_norm.py`, the means being taken over the places:

    dx      = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat))
    dweight = sum over examples and places of g x_hat
    dbias   = sum over examples and places of g

Running statistics, where they are tracked, are those of `layers/batch_norm.py`, a batch's mean and
unbiased variance being the averages of its examples'. Cache: x in contiguous order, mean, rstd.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.keys import Key
from lincoln_fn.layers._normalisation import (
    Running,
    check_channels,
    first_affine,
    first_running,
    moved,
    normalise_groups,
    normalise_groups_backward,
)
from lincoln_fn.record import record, static
from lincoln_fn.shapes import (
    LayerError,
    check_cache,
    check_cotangent,
    check_input,
    check_params,
)


@record
class Params:
    """The scale and the shift, one number a channel, and running statistics; None for without."""

    weight: Float[Tensor, " channels"] | None
    bias: Float[Tensor, " channels"] | None
    running: Running | None


@record
class Cache:
    """The input, its mean and rstd, and the momentum of the running statistics."""

    x: Float[Tensor, "batch channels *spatial"]
    mean: Float[Tensor, "batch channels"]
    rstd: Float[Tensor, "batch channels"]
    momentum: float | None = static()


def init(
    key: Key,
    x: Float[Tensor, "batch channels *spatial"],
    *,
    affine: bool,
    track_running_stats: bool,
) -> Params:
    """Make a weight of ones, a bias of zeros and running statistics for inputs like x.

    Args:
        key: ignored.
        x: an example input, of which only shape, dtype and device count.
        affine: whether there are a weight and a bias.
        track_running_stats: whether there are running statistics.

    Returns:
        The parameters, in x's dtype and on its device.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, L, ...).
    """
    check_input("instance_norm", (), x)
    check_channels("instance_norm", x, None, least=3)
    weight, bias = first_affine(x, (x.shape[1],), weight=affine, bias=affine)
    return Params(weight, bias, first_running(x) if track_running_stats else None)


def forward(
    params: Params,
    x: Float[Tensor, "batch channels *spatial"],
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
) -> tuple[Float[Tensor, "batch channels *spatial"], Cache]:
    """Compute y = (x - mean) / sqrt(var + eps) * weight + bias by each channel's own statistics.

    Args:
        params: weight, bias and running statistics, the last unused here.
        x: of shape (N, C, L, ...), with one or more axes of places.
        eps: added to the variance.
        momentum: kept for `advance`.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, L, ...) with the weight's C, dtype
            and device and more than one place, or params are another layer's.

    Example:
        >>> forward(Params(None, None, None), torch.tensor([[[1.0, 3.0], [6.0, 4.0]]]))[0]
        tensor([[[-1.0000,  1.0000],
                 [ 1.0000, -1.0000]]])
    """
    _check(params, x)
    if x.shape[2:].numel() < 2:
        problem = f"expected more than one value for each channel, got x of shape {tuple(x.shape)}"
        raise LayerError("instance_norm", problem)
    x = x.contiguous()
    y, mean, rstd = normalise_groups(x, params.weight, params.bias, x.shape[1], eps)
    return y, Cache(x, mean.view(x.shape[:2]), rstd.view(x.shape[:2]), momentum)


def backward(
    params: Params, cache: Cache, g: Float[Tensor, "batch channels *spatial"]
) -> tuple[Float[Tensor, "batch channels *spatial"], Params]:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), dweight and dbias.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.
        g: dL/dy, of y's shape.

    Returns:
        dx of x's shape, and dparams, which hold the same running statistics as params.

    Raises:
        LayerError: if g does not mirror y, or params or cache are another layer's.

    Example:
        >>> params = Params(None, None, None)
        >>> _, cache = forward(params, torch.tensor([[[1.0, 3.0, 3.0]]]))
        >>> backward(params, cache, torch.ones(1, 1, 3))[0].abs().max() < 1e-6
        tensor(True)
    """
    check_params("instance_norm", params, Params)
    check_cache("instance_norm", cache, Cache)
    check_cotangent("instance_norm", g, cache.x)
    statistics = (cache.mean, cache.rstd)
    dx, dweight, dbias = normalise_groups_backward(
        g, cache.x, statistics, params.weight, params.bias
    )
    return dx, Params(dweight, dbias, params.running)


def predict(
    params: Params,
    x: Float[Tensor, "batch channels *spatial"],
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
) -> Float[Tensor, "batch channels *spatial"]:
    """Compute y by the running statistics, or as `forward` does if there are none.

    Args:
        params: weight, bias and running statistics.
        x: of shape (N, C, L, ...).
        eps: added to the variance.
        momentum: ignored.

    Returns:
        y of x's shape.

    Raises:
        LayerError: as `forward` does, but for the number of places.
    """
    running = params.running if isinstance(params, Params) else None
    if running is None:
        return forward(params, x, eps=eps)[0]
    _check(params, x)
    return torch.nn.functional.batch_norm(
        x, running.mean, running.var, params.weight, params.bias, eps=eps
    )


def advance(params: Params, cache: Cache) -> Params:
    """Move the running statistics towards the averages of the batch's examples.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.

    Returns:
        The parameters with the next running statistics.

    Raises:
        LayerError: if params or cache are another layer's.
    """
    check_params("instance_norm", params, Params)
    check_cache("instance_norm", cache, Cache)
    if params.running is None:
        return params
    var = cache.x.flatten(2).var(-1)
    running = moved(params.running, cache.mean.mean(0), var.mean(0), cache.momentum)
    return Params(params.weight, params.bias, running)


def _check(params: Params, x: Tensor) -> None:
    check_input("instance_norm", params, x, Params)
    mean = None if params.running is None else params.running.mean
    check_channels("instance_norm", x, mean if params.weight is None else params.weight, least=3)
