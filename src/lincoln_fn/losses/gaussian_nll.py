"""Negative log-likelihood of the target t under a normal distribution of mean m and variance v.

Derivation. With d = m - t and v clamped to at least epsilon,

    l = (log v + d^2 / v) / 2 + log(2 pi) / 2    the last term only if `full`
    (dl)/(dm) = d / v
    (dl)/(dv) = (1 / v - d^2 / v^2) / 2 = (1 - d^2 / v) / (2 v)
    dm = d / v dl
    dv = (1 - d^2 / v) / (2 v) dl    summed over the axes along which v is shared

Where v is below epsilon, dv is computed at epsilon and is not 0, as in torch. So a variance that is
too small can grow again.

Cache: d, the clamped v, and the variance. Source: Nix and Weigend, "Estimating the mean
and variance of the target probability distribution", 1994.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from lincoln_fn.core import Positive, constructor, unexpected
from lincoln_fn.losses.common.checks import right_values, same_shape
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, Tensors, make_loss

Pair = tuple[Elements, Tensor]


def forward(
    prediction: Pair, target: Elements, *, full: bool, eps: float
) -> tuple[Elements, Tensors]:
    """Compute l = (log v + d^2 / v) / 2, with log(2 pi) / 2 if `full`."""
    mean, var = prediction
    d, wide = mean - target, _variance(mean, var)
    # Detached, the clamp has the gradient of the identity for autograd, too.
    v = torch.where(wide < eps, wide + (eps - wide).detach(), wide)
    loss = 0.5 * (torch.log(v) + d * d / v)
    return loss + 0.5 * math.log(2 * math.pi) if full else loss, (d, v, var)


def backward(cache: Tensors, dl: Cotangent) -> Pair:
    """Compute dm = d / v dl and dv = (1 - d^2 / v) / (2 v) dl."""
    d, v, var = cache
    dv = (1 - d * d / v) / (2 * v) * dl
    return d / v * dl, dv.sum_to_size(v.shape).reshape(var.shape)


def _variance(mean: Tensor, var: Tensor) -> Tensor:
    """Give var as many axes as the mean has."""
    shape, given = tuple(mean.shape), tuple(var.shape)
    wide = var.unsqueeze(-1) if given == shape[:-1] and given != shape else var
    same_axes = wide.ndim == mean.ndim
    if not same_axes or any(n not in (1, of) for n, of in zip(wide.shape, shape, strict=True)):
        expected = f"var of shape {shape}, with 1 in place of axes that share one, or {shape[:-1]}"
        raise unexpected("gaussian_nll", expected, given)
    return right_values("gaussian_nll", "var of at least 0", wide, ~(wide < 0))  # or nan


@constructor
def gaussian_nll(
    *, full: bool = False, eps: Positive = 1e-6, reduction: Reduction = "mean"
) -> Loss:
    """Make the negative log-likelihood of t under a normal distribution of mean m and variance v.

    l = (log v + (m - t)^2 / v) / 2 + log(2 pi) / 2, with the last term only if `full`, and v
    clamped to at least eps. m and the targets have one shape. v has it too, or size 1 on some axes,
    or lacks the last axis.

    Example:
        >>> loss, m, v = lf.losses.gaussian_nll(), torch.tensor([3.0]), torch.tensor([1.0])
        >>> value, cache = loss.forward((m, v), torch.tensor([1.0]))
        >>> value, loss.backward(cache)
        (tensor(2.), (tensor([2.]), tensor([-1.5000])))
    """
    return make_loss(forward, backward, inputs=("mean", "var"), reads=same_shape)
