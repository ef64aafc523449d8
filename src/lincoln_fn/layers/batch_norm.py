"""Batch norm: y = (x - mean) / sqrt(var + eps) * weight + bias, each channel over the batch.

Axis 1 counts channels, and each channel is normalised by its mean and biased variance over the
batch and all places (Ioffe and Szegedy, "Batch Normalization", ICML 2015, algorithm 1).

Derivation. A channel is a row of layer norm, M = N * places long, so that with
rstd = 1 / sqrt(var + eps), x_hat = (x - mean) rstd and dx_hat = g weight the three terms are those
derived in `layers/layer_norm.py`, the means being taken over the batch and the places:

    dx      = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat))
    dweight = sum over batch and places of g x_hat
    dbias   = sum over batch and places of g

The weight being one number a channel, mean(dx_hat) = weight dbias / M and mean(dx_hat x_hat) =
weight dweight / M (the paper's last three equations of section 3).

Conventions, which are torch's:

- `forward` normalises by the batch's own mean and biased variance, sum of (x - mean)^2 / M;
- `advance` moves the running statistics, new = (1 - momentum) old + momentum batch, with the
  batch's unbiased variance, sum of (x - mean)^2 / (M - 1); with momentum None, momentum is
  1 / num_batches, which makes them the average over all batches;
- `predict` normalises by the running statistics, or as `forward` does where none are tracked.

Cache: x; mean and rstd, for `backward`; the unbiased variance, for `advance`.
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
    """The input, its mean, rstd and unbiased variance, and the hyperparameters."""

    x: Float[Tensor, "batch channels *spatial"]
    mean: Float[Tensor, " channels"]
    rstd: Float[Tensor, " channels"]
    var: Float[Tensor, " channels"]
    eps: float = static()
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
        LayerError: if x is not a floating tensor of shape (N, C, ...).
    """
    check_input("batch_norm", (), x)
    check_channels("batch_norm", x, None)
    weight, bias = first_affine(x, (x.shape[1],), weight=affine, bias=affine)
    return Params(weight, bias, first_running(x) if track_running_stats else None)


def forward(
    params: Params,
    x: Float[Tensor, "batch channels *spatial"],
    *,
    eps: float = 1e-5,
    momentum: float | None = 0.1,
) -> tuple[Float[Tensor, "batch channels *spatial"], Cache]:
    """Compute y = (x - mean) / sqrt(var + eps) * weight + bias by the batch's own statistics.

    Args:
        params: weight, bias and running statistics, the last unused here.
        x: of shape (N, C, ...), any number of further axes.
        eps: added to the variance.
        momentum: kept for `advance`.

    Returns:
        y of x's shape, and the cache.

    Raises:
        LayerError: if x is not a floating tensor of shape (N, C, ...) with the weight's C, dtype
            and device and more than one value a channel, or params are another layer's.

    Example:
        >>> forward(Params(None, None, None), torch.tensor([[1.0, 6.0], [3.0, 4.0]]))[0]
        tensor([[-1.0000,  1.0000],
                [ 1.0000, -1.0000]])
    """
    _check(params, x)
    if x.shape[0] * x.shape[2:].numel() < 2:
        problem = f"expected more than one value for each channel, got x of shape {tuple(x.shape)}"
        raise LayerError("batch_norm", problem)
    # Moved all the way, with a momentum of 1, the kernel's running statistics are the batch's.
    start = x.new_zeros(x.shape[1])
    y, mean, rstd, _, var = torch.ops.aten._native_batch_norm_legit_functional(
        x, params.weight, params.bias, start, start, True, 1.0, eps
    )
    return y, Cache(x, mean, rstd, var, eps, momentum)


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
        >>> _, cache = forward(params, torch.tensor([[1.0], [3.0], [3.0]]))
        >>> backward(params, cache, torch.ones(3, 1))[0].abs().max() < 1e-6
        tensor(True)
    """
    check_params("batch_norm", params, Params)
    check_cache("batch_norm", cache, Cache)
    check_cotangent("batch_norm", g, cache.x)
    weight = params.weight
    # Only these outputs are wanted; the two None stand for running statistics, unused in training.
    wanted = [True, weight is not None, params.bias is not None]
    dx, dweight, dbias = torch.ops.aten.native_batch_norm_backward(
        g, cache.x, weight, None, None, cache.mean, cache.rstd, True, cache.eps, wanted
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
        x: of shape (N, C, ...).
        eps: added to the variance.
        momentum: ignored.

    Returns:
        y of x's shape.

    Raises:
        LayerError: as `forward` does, but for the number of values a channel.
    """
    running = params.running if isinstance(params, Params) else None
    if running is None:
        return forward(params, x, eps=eps)[0]
    _check(params, x)
    return torch.nn.functional.batch_norm(
        x, running.mean, running.var, params.weight, params.bias, eps=eps
    )


def advance(params: Params, cache: Cache) -> Params:
    """Move the running statistics towards the batch's.

    Args:
        params: those given to `forward`.
        cache: what `forward` returned.

    Returns:
        The parameters with the next running statistics.

    Raises:
        LayerError: if params or cache are another layer's.

    Example:
        >>> x = torch.tensor([[1.0], [3.0]])
        >>> params = init(Key(0), x, affine=False, track_running_stats=True)
        >>> running = advance(params, forward(params, x)[1]).running
        >>> running.mean, running.var
        (tensor([0.2000]), tensor([1.1000]))
    """
    check_params("batch_norm", params, Params)
    check_cache("batch_norm", cache, Cache)
    if params.running is None:
        return params
    running = moved(params.running, cache.mean, cache.var, cache.momentum)
    return Params(params.weight, params.bias, running)


def _check(params: Params, x: Tensor) -> None:
    check_input("batch_norm", params, x, Params)
    mean = None if params.running is None else params.running.mean
    check_channels("batch_norm", x, mean if params.weight is None else params.weight)
