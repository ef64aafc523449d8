"""Functions of torch, written out in simpler ones.

A mistake may stand inside what torch computes by one function: the mean of a layer norm, or the sum
of a softmax. The tape records these functions' parts by the code below.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn import functional

from lincoln_fn.testing.call import Function


def softmax(x: Tensor, dim: int = -1, *_: Any, **__: Any) -> Tensor:
    """Compute e^x / sum e^x."""
    e = torch.exp(x - x.detach().amax(dim, keepdim=True))
    return e / e.sum(dim, keepdim=True)


def log_softmax(x: Tensor, dim: int = -1, *_: Any, **__: Any) -> Tensor:
    """Compute x - log sum e^x."""
    return x - logsumexp(x, dim, keepdim=True)


def logsumexp(x: Tensor, dim: Any, keepdim: bool = False) -> Tensor:
    """Compute log sum e^x."""
    return torch.log(torch.exp(x).sum(dim, keepdim=keepdim))


def softplus(x: Tensor, beta: float = 1.0, threshold: float = 20.0) -> Tensor:
    """Compute log(1 + e^(beta x)) / beta."""
    return torch.log1p(torch.exp(beta * x)) / beta


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Compute x W^T + b."""
    y = x @ weight.mT
    return y if bias is None else y + bias


def var(
    x: Tensor, dim: Any = None, unbiased: bool = True, keepdim: bool = False, **options: Any
) -> Tensor:
    """Compute the mean of (x - mean)^2."""
    correction = options.get("correction", int(unbiased))
    axes = tuple(range(x.ndim)) if dim is None else dim
    centred = x - x.mean(axes, keepdim=True)
    count = x.numel() // max(1, x.sum(axes).numel())
    total: Tensor = (centred**2).sum(axes, keepdim=keepdim)
    mean: Tensor = total / (count - correction)
    return mean


def std(x: Tensor, *args: Any, **options: Any) -> Tensor:
    """Compute the square root of the variance."""
    return torch.sqrt(var(x, *args, **options))


def layer_norm(
    x: Tensor,
    normalized_shape: Any,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    eps: float = 1e-5,
) -> Tensor:
    """Compute (x - mean) / sqrt(var + eps) w + b."""
    return _normalised(x, tuple(range(-len(normalized_shape), 0)), weight, bias, eps)


def batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Compute (x - mean) / sqrt(var + eps) w + b, by channel."""
    if not training:
        y: Tensor = functional.batch_norm(
            x, running_mean, running_var, weight, bias, training, momentum, eps
        )
        return y
    ones = (1,) * (x.ndim - 2)
    scale, shift = (p if p is None else p.reshape(-1, *ones) for p in (weight, bias))
    return _normalised(x, (0, *range(2, x.ndim)), scale, shift, eps)


def _normalised(
    x: Tensor, axes: tuple[int, ...], weight: Tensor | None, bias: Tensor | None, eps: float
) -> Tensor:
    centred = x - x.mean(axes, keepdim=True)
    y = centred * torch.rsqrt((centred**2).mean(axes, keepdim=True) + eps)
    y = y if weight is None else y * weight
    return y if bias is None else y + bias


def cross_entropy(x: Tensor, target: Tensor, *_: Any, **options: Any) -> Tensor:
    """Compute -log softmax(x) at the label."""
    return functional.nll_loss(log_softmax(x, 1 if x.ndim > 1 else 0), target, **options)


def huber_loss(
    x: Tensor, target: Tensor, reduction: str = "mean", delta: float = 1.0, *_: Any, **__: Any
) -> Tensor:
    """Compute d^2 / 2 for a small difference d, and delta (|d| - delta / 2) for a large one."""
    size = (x - target).abs()
    losses = torch.where(size < delta, 0.5 * (x - target) ** 2, delta * (size - delta / 2))
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


# The mode meets a function under each of its names.
EXPANSIONS: dict[Function, Function] = {
    torch.softmax: softmax,
    functional.softmax: softmax,
    Tensor.softmax: softmax,
    torch.log_softmax: log_softmax,
    functional.log_softmax: log_softmax,
    Tensor.log_softmax: log_softmax,
    torch.logsumexp: logsumexp,
    Tensor.logsumexp: logsumexp,
    functional.softplus: softplus,
    functional.linear: linear,
    torch.var: var,
    Tensor.var: var,
    torch.std: std,
    Tensor.std: std,
    functional.layer_norm: layer_norm,
    functional.batch_norm: batch_norm,
    functional.cross_entropy: cross_entropy,
    functional.huber_loss: huber_loss,
}
