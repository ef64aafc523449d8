"""Losses between distributions: of classes, of a Poisson count, of a normal variable.

The target has the shape of the prediction, or of the mean where there are mean and variance.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from lincoln_fn.losses.labels import same_shape
from lincoln_fn.losses.loss import Loss, Reduction, nan_unless, reduced, require, value_range
from lincoln_fn.shapes import LayerError

KLReduction: TypeAlias = Literal["mean", "batchmean", "sum", "none"]


def kl_div(*, log_target: bool = False, reduction: KLReduction = "mean") -> Loss:
    """Make the Kullback-Leibler divergence of t from the log-probabilities z, point by point.

    l = t (log t - z), which is 0 where t = 0.

    Derivation. Only z is predicted, so dl/dz = -t.

    Args:
        log_target: whether the target holds log t in place of t.
        reduction: "mean" over the elements, "batchmean" over the rows (the divergence itself),
            "sum" of the elements, or "none".

    Returns:
        The loss, on z of any shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = kl_div(reduction="batchmean")
        >>> value, cache = loss.forward(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0]]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-1., -0.]]))
    """

    def values(z: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        given = same_shape("kl_div", target, z)
        if log_target:
            t = given.exp()
            return t * (given - z), t
        return torch.xlogy(given, given) - given * z, given

    def slope(t: Tensor, dl: Tensor | float) -> Tensor:
        return -t * dl

    def count(t: Tensor) -> Tensor | None:
        return t.new_tensor(t.shape[:1].numel()) if reduction == "batchmean" else None

    return reduced(
        "kl_div",
        reduction,
        values,
        slope,
        count=count,
        reductions=get_args(KLReduction),
        log_target=(log_target, False),
    )


def poisson_nll(
    *,
    log_input: bool = True,
    full: bool = False,
    eps: float = 1e-8,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the negative log-likelihood of counts t under a Poisson distribution of rate r.

    l = r - t log r + log t!, where x = log r is predicted, or x = r itself.

    log t! does not depend on x. It is left out or, in a full loss, taken by Stirling's formula,
    t log t - t + log(2 pi t) / 2, where t > 1, and as 0 where it is not.

    Derivation. With r = e^x, dr/dx = r and d log r/dx = 1. With r = x, log r is taken as
    log(x + eps), so that it stays finite. Hence

        dl/dx = e^x - t       or       dl/dx = 1 - t / (x + eps).

    Args:
        log_input: whether log r is predicted.
        full: whether log t! is part of the loss.
        eps: what is added to r where r is predicted.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape.

    Raises:
        ValueError: if there is no such reduction, or eps is not above 0.

    Example:
        >>> loss = poisson_nll(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 0.0]), torch.tensor([3, 0]))
        >>> value, loss.backward(cache)
        (tensor(2.), tensor([-2.,  1.]))
    """
    require("poisson_nll", eps > 0, "eps above 0", eps)

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        t = same_shape("poisson_nll", target, x)
        loss = torch.exp(x) - t * x if log_input else x - t * torch.log(x + eps)
        if full:
            log_factorial = t * torch.log(t) - t + 0.5 * torch.log(2 * math.pi * t)
            loss = loss + torch.where(t > 1, log_factorial, 0)
        return loss, (x, t)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        x, t = kept
        return (torch.exp(x) - t if log_input else 1 - t / (x + eps)) * dl

    return reduced(
        "poisson_nll",
        reduction,
        values,
        slope,
        log_input=(log_input, True),
        full=(full, False),
        eps=(eps, 1e-8),
    )


def gaussian_nll(*, full: bool = False, eps: float = 1e-6, reduction: Reduction = "mean") -> Loss:
    """Make the negative log-likelihood of t under a normal distribution of mean m and variance v.

    l = (log v + (m - t)^2 / v) / 2 + log(2 pi) / 2, with the last term in a full loss only, and v
    taken as at least eps (Nix and Weigend, "Estimating the mean and variance of the target
    probability distribution", 1994).

    Derivation. With d = m - t,

        dl/dm = d / v
        dl/dv = (1 / v - d^2 / v^2) / 2 = (1 - d^2 / v) / 2v.

    Where v is below eps, dl/dv is taken at eps and not as 0, as torch does, so that a variance that
    is too small can grow again. A variance shared along an axis sums dl/dv over it.

    Args:
        full: whether the constant is part of the loss.
        eps: the smallest variance.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on (m, v). v has m's shape, or 1 in place of some axes, or lacks the last axis.

    Raises:
        ValueError: if there is no such reduction, or eps is not above 0.

    Example:
        >>> loss, m, v = gaussian_nll(), torch.tensor([3.0]), torch.tensor([1.0])
        >>> value, cache = loss.forward((m, v), torch.tensor([1.0]))
        >>> value, loss.backward(cache)
        (tensor(2.), (tensor([2.]), tensor([-1.5000])))
    """
    require("gaussian_nll", eps > 0, "eps above 0", eps)

    def values(
        prediction: tuple[Tensor, Tensor], target: Tensor
    ) -> tuple[Tensor, tuple[Tensor, ...]]:
        mean, var = prediction
        d = mean - same_shape("gaussian_nll", target, mean)
        v = _variance(mean, var).clamp(min=eps)
        loss = 0.5 * (torch.log(v) + d * d / v)
        return loss + 0.5 * math.log(2 * math.pi) if full else loss, (d, v, var)

    def slope(kept: tuple[Tensor, ...], dl: Tensor | float) -> tuple[Tensor, Tensor]:
        d, v, var = kept
        dm = d / v
        dv = (1 - d * dm) / (2 * v) * dl
        return dm * dl, dv.sum_to_size(v.shape).view(var.shape)

    return reduced(
        "gaussian_nll",
        reduction,
        values,
        slope,
        inputs=("mean", "var"),
        full=(full, False),
        eps=(eps, 1e-6),
    )


def _variance(mean: Tensor, var: Tensor) -> Tensor:
    """Give var as many axes as the mean has."""
    shape, given = tuple(mean.shape), tuple(var.shape)
    wide = var.unsqueeze(-1) if given == shape[:-1] and given != shape else var
    same_axes = wide.ndim == mean.ndim
    if not same_axes or any(n not in (1, of) for n, of in zip(wide.shape, shape, strict=True)):
        wanted = f"{shape}, with 1 in place of axes that share one, or {shape[:-1]}"
        raise LayerError("gaussian_nll", f"expected var of shape {wanted}, got {given}")
    ends = value_range(var)
    if ends is None:
        return nan_unless(wide >= 0, wide)
    if ends[0] < 0:
        raise LayerError("gaussian_nll", f"expected var of at least 0, got {ends[0]:g}")
    return wide
