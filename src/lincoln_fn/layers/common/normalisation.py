"""Shared by the normalisations: statistics, affine parameters, running statistics.

Each normalisation brings groups of M values to mean 0 and variance 1, then scales and shifts. They
differ in what a group is: a channel over the whole batch (batch norm), a row (layer norm), some
channels of one example (group norm) or one channel of one example (instance norm).
`layers/layer_norm.py` derives the backward pass of all of them.

Half precision is converted to float32 inside. Means and sums are taken over one axis after another.
Along one axis torch adds numbers pairwise. Over several axes it adds all but the first axis one
number at a time, which is inaccurate in float32 after about 2^20 numbers.

The p-norm is computed from the largest |x_i|, M, because |x_i|^p may round to 0 or be infinite
where the norm is neither. In float32, (10^(-6))^10 is 0.

    (sum_i |x_i|^p)^(1/p) = M (sum_i |x_i / M|^p)^(1/p)
"""

from __future__ import annotations

import math
from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Cache, Key, Params, Sizes, State, evolve, mirror, record, sum_axes

Axes = tuple[int, ...]
P = TypeVar("P")  # the params of a normalisation: a weight and perhaps a bias


def widened(x: Tensor) -> Tensor:
    """Convert half precision to float32."""
    return x.float() if x.dtype in (torch.bfloat16, torch.float16) else x


def mean_over(x: Tensor, axes: Axes) -> Tensor:
    """Average over axes, which stay with size 1."""
    for axis in axes:
        x = x.mean(axis, keepdim=True)
    return x


def sum_over(x: Tensor, axes: Axes) -> Tensor:
    """Sum over axes, which stay with size 1."""
    for axis in axes:
        x = x.sum(axis, keepdim=True)
    return x


def statistics(x: Tensor, axes: Axes) -> tuple[Tensor, Tensor, Tensor]:
    """Compute x - mean, the mean and the biased variance, mean((x - mean)^2), over axes."""
    rounded = mean_over(x, axes)
    centred = x - rounded
    # A mean of 1e4 has a rounding error of 5e-4 in float32: the mean of the remainder.
    lacking = mean_over(centred, axes)
    centred = centred - lacking
    return centred, rounded + lacking, mean_over(centred.square(), axes)


def norm_over(x: Tensor, p: float, axes: Axes) -> Tensor:
    """Compute the p-norm along axes, which stay with size 1, in float32 at least."""
    x = widened(x)
    scale = _divisor(x, p, axes) if x.numel() and p < math.inf else 1.0
    norm: Tensor = scale * torch.linalg.vector_norm(x / scale, p, axes, keepdim=True)
    return norm


def _divisor(x: Tensor, p: float, axes: Axes) -> Tensor:
    """Return M where powers are out of range, else 1: x / 1 has the same bits as x."""
    largest, form = x.abs().amax(axes, keepdim=True), torch.finfo(x.dtype)
    power = largest**p
    is_within = (power > form.tiny / form.eps) & (power < form.max * form.eps)
    is_divisor = ~is_within & (largest > 0) & (largest < math.inf)
    return torch.where(is_divisor, largest, 1)


def standardised(x: Tensor, axes: Axes, eps: float) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Compute x_hat = (x - mean) rstd, rstd = 1 / sqrt(var + eps), mean and var, over axes."""
    centred, mean, var = statistics(widened(x), axes)
    rstd = (var + eps).rsqrt()
    return centred * rstd, rstd, mean, var


def standardised_dx(dx_hat: Tensor, x_hat: Tensor, rstd: Tensor, axes: Axes) -> Tensor:
    """Compute dx = rstd (dx_hat - mean(dx_hat) - x_hat mean(dx_hat x_hat)), over axes."""
    x_hat = widened(x_hat)
    of_mean, of_rstd = mean_over(dx_hat, axes), mean_over(dx_hat * x_hat, axes)
    return rstd * (dx_hat - of_mean - x_hat * of_rstd)


def scale_and_shift(
    x_hat: Tensor, weight: Tensor | None, bias: Tensor | None = None, places: int = 0
) -> Tensor:
    """Compute x_hat w + b, leaving out None; x_hat has `places` axes after w's."""
    scaled = x_hat if weight is None else x_hat * _before(places, weight)
    return scaled if bias is None else scaled + _before(places, bias)


def _before(places: int, values: Tensor) -> Tensor:
    return values.reshape(*values.shape, *(1,) * places)


def affine_backward(params: Params, x_hat: Tensor, g: Tensor, axes: Axes) -> tuple[Tensor, Params]:
    """Compute dx_hat = g w, dw = sum of g x_hat and db = sum of g; w has these axes of x_hat."""
    dy, weight, bias = widened(g), params.weight, params.bias
    shared = tuple(axis for axis in range(g.ndim) if axis not in axes)
    dw = None if weight is None else weight_gradient(dy, x_hat, weight, shared)
    db = None if bias is None else _mirrored(sum_over(dy, shared), bias)
    dx_hat = scale_and_shift(dy, weight, None, g.ndim - 1 - axes[-1])
    return dx_hat, evolve(params, weight=dw, bias=db)


def normalised(
    params: Params, x: Tensor, axes: Axes, eps: float, places: int = 0
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """Compute y = x_hat w + b, x_hat, rstd, mean and var; y and x_hat in x's dtype."""
    x_hat, rstd, mean, var = standardised(x, axes, eps)
    y = scale_and_shift(x_hat, params.weight, params.bias, places)
    return y.to(x.dtype), x_hat.to(x.dtype), rstd, mean, var


def normalised_backward(
    params: Params, x_hat: Tensor, rstd: Tensor, g: Tensor, of_weight: Axes, axes: Axes
) -> tuple[Tensor, Params]:
    """Compute dx, dw and db; w has some axes of x_hat, and the statistics are over others."""
    dx_hat, dparams = affine_backward(params, x_hat, g, of_weight)
    return standardised_dx(dx_hat, x_hat, rstd, axes).to(g.dtype), dparams


def weight_gradient(g: Tensor, x_hat: Tensor, weight: Tensor, shared: Axes) -> Tensor:
    """Compute dw = sum of g x_hat over the axes that share w."""
    return _mirrored(sum_over(g * widened(x_hat), shared), weight)


def affine_terms(params: P, x_hat: Tensor, g: Tensor, axes: Axes) -> P:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over what shares w in example n."""
    if 0 in axes:
        raise core.no_batch(type(params).__module__.rpartition(".")[-1], g)  # the layer's file
    shared, dy = tuple(axis for axis in range(1, g.ndim) if axis not in axes), widened(g)
    return mirror(params, weight=sum_axes(dy * widened(x_hat), shared), bias=sum_axes(dy, shared))


def _mirrored(gradient: Tensor, parameter: Tensor) -> Tensor:
    return gradient.reshape(parameter.shape).to(parameter.dtype)


def first_affine(
    key: Key, x: Tensor, sizes: Sizes, affine: bool, bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Make a weight of ones and a bias of zeros beside it, in x's dtype, or None."""
    weight = torch.ones(sizes, dtype=x.dtype, device=key.bits.device) if affine else None
    return weight, None if weight is None or not bias else torch.zeros_like(weight)


@record
class Running(State):
    """Statistics of the training data, for `predict`, and the number of batches in them."""

    mean: Float[Tensor, " channels"]
    var: Float[Tensor, " channels"]
    num_batches: Int64[Tensor, ""]


def first_running(key: Key, x: Tensor, channels: int) -> Running:
    """Make the statistics before any batch, mean 0 and variance 1, in x's dtype."""
    device = key.bits.device
    mean = torch.zeros(channels, dtype=x.dtype, device=device)
    return Running(mean, torch.ones_like(mean), torch.zeros((), dtype=torch.int64, device=device))


def moved(running: Running, mean: Tensor, var: Tensor, momentum: float | None) -> Running:
    """Compute new = (1 - momentum) old + momentum batch; None means 1 / num_batches."""
    num_batches = running.num_batches + 1
    weight = num_batches.to(var.dtype).reciprocal() if momentum is None else momentum
    return Running(
        torch.lerp(running.mean, mean.to(running.mean.dtype), weight),
        torch.lerp(running.var, var.to(running.var.dtype), weight),
        num_batches,
    )


def advanced(params: P, cache: Cache) -> P:
    """Update the running statistics by the batch's, or by the averages over its examples."""
    running: Running | None = getattr(params, "running", None)
    if running is None:
        return params
    # An empty batch has no statistics: the old ones are used.
    batch = cache if cache.x_hat.numel() else running
    mean, var = (each if each.ndim == 1 else each.mean(0) for each in (batch.mean, batch.var))
    return evolve(params, running=moved(running, mean, var, cache.momentum))
