"""Shared by the normalisations: statistics, affine parameters, running statistics.

Each normalisation brings groups of M values to mean 0 and variance 1, then scales and shifts. They
differ in what a group is: a channel over the whole batch (batch norm), a row (layer norm), some
channels of one example (group norm) or one channel of one example (instance norm).
`layers/layer_norm.py` derives the backward pass of all of them.

Half precision is converted to float32 inside. Means and sums are taken over one axis after another.
Along one axis torch adds numbers pairwise. Over several axes it adds all but the first axis one
number at a time, which is inaccurate in float32 after about 2^20 numbers.
"""

from __future__ import annotations

from typing import TypeVar

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lincoln_fn.core import Key, State, mirror, no_batch, record, sum_axes

Sizes = tuple[int, ...]
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


def scale_and_shift(
    x_hat: Tensor, weight: Tensor | None, bias: Tensor | None = None, places: int = 0
) -> Tensor:
    """Compute x_hat w + b, leaving out None; x_hat has `places` axes after w's."""
    scaled = x_hat if weight is None else x_hat * _before(places, weight)
    return scaled if bias is None else scaled + _before(places, bias)


def _before(places: int, values: Tensor) -> Tensor:
    return values.reshape(*values.shape, *(1,) * places)


def affine_grads(
    g: Tensor, x_hat: Tensor, weight: Tensor | None, bias: Tensor | None, axes: Axes
) -> tuple[Tensor | None, Tensor | None]:
    """Compute dw = sum of g x_hat and db = sum of g over axes; None if there is none."""
    return (
        None if weight is None else _mirrored(sum_over(g * x_hat, axes), weight),
        None if bias is None else _mirrored(sum_over(g, axes), bias),
    )


def affine_terms(params: P, x_hat: Tensor, g: Tensor, axes: Axes) -> P:
    """Return dw_n = sum of g x_hat and db_n = sum of g, over example n's axes that share w."""
    if 0 in axes:
        raise no_batch(type(params).__module__.rpartition(".")[-1], g)  # the layer's file
    shared, dy = tuple(axis for axis in range(1, g.ndim) if axis not in axes), widened(g)
    return mirror(params, weight=sum_axes(dy * widened(x_hat), shared), bias=sum_axes(dy, shared))


def _mirrored(gradient: Tensor, parameter: Tensor) -> Tensor:
    return gradient.reshape(parameter.shape).to(parameter.dtype)


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


def standardise_by(running: Running, x: Tensor, eps: float, places: int) -> tuple[Tensor, Tensor]:
    """Compute x_hat = (x - mean) rstd by the running statistics, and rstd."""
    rstd = (widened(running.var) + eps).rsqrt()
    return (widened(x) - _before(places, running.mean)) * _before(places, rstd), rstd


def first_affine(
    key: Key, x: Tensor, sizes: Sizes, *, weight: bool, bias: bool
) -> tuple[Tensor | None, Tensor | None]:
    """Make a weight of ones and a bias of zeros in x's dtype, or None where one is left out."""
    device = key.bits.device
    return (
        torch.ones(sizes, dtype=x.dtype, device=device) if weight else None,
        torch.zeros(sizes, dtype=x.dtype, device=device) if bias else None,
    )
