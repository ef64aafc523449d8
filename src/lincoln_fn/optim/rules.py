"""Shared by the update rules of several optimizers."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core.autodiff import is_transformed
from lincoln_fn.optim.optimizer import LearningRate


def learning_rate(lr: LearningRate, step: Tensor | None) -> float | Tensor:
    """Return the number, or the schedule's value after `step` steps."""
    if not callable(lr):
        return lr
    assert step is not None
    return lr(step)


def regularize_gradient(
    p: Tensor, dp: Tensor, weight_decay: float | Tensor, maximize: bool
) -> Tensor:
    """Compute dp + weight_decay p: the gradient plus that of the penalty weight_decay |p|^2 / 2."""
    # To maximize the loss, -dp replaces dp.
    if maximize:
        dp = dp.neg()
    return add_scaled(dp, p, weight_decay) if weight_decay else dp


def add_scaled(a: Tensor, b: Tensor, factor: float | Tensor) -> Tensor:
    """Compute a + factor b, without an intermediate tensor for the product."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, b, factor)
    return a.add(b, alpha=factor)


def decay_weight(p: Tensor, lr: float | Tensor, weight_decay: float | Tensor) -> Tensor:
    """Compute (1 - lr weight_decay) p, weight decay that is decoupled from the gradient."""
    return p * (1 - lr * weight_decay) if weight_decay else p


def root(v: Tensor) -> Tensor:
    """Compute sqrt(v), with a finite derivative where v is 0."""
    # v is a mean of squares: where it is 0, so is its derivative. torch's derivative of sqrt is
    # infinite there, and infinity times 0 is nan.
    if not is_transformed(v):
        return torch.sqrt(v)
    is_zero = v == 0
    return torch.where(is_zero, v, torch.sqrt(torch.where(is_zero, 1, v)))


def running_mean(mean: Tensor, new: Tensor, decay: float) -> Tensor:
    """Compute decay mean + (1 - decay) new."""
    return torch.lerp(mean, new, 1 - decay)


def moments(m: Tensor, v: Tensor, dp: Tensor, betas: tuple[float, float]) -> tuple[Tensor, Tensor]:
    """Compute Adam's running means, of dp and of dp^2."""
    return running_mean(m, dp, betas[0]), running_mean(v, dp * dp, betas[1])


def take_step(p: Tensor, direction: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr direction, without an intermediate tensor for the product."""
    if isinstance(lr, Tensor):
        return torch.addcmul(p, direction, lr, value=-1)
    return torch.sub(p, direction, alpha=lr)


def take_scaled_step(p: Tensor, direction: Tensor, scale: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr direction / scale, without intermediate tensors."""
    if isinstance(lr, Tensor):
        return torch.addcmul(p, direction / scale, lr, value=-1)
    return torch.addcdiv(p, direction, scale, value=-lr)
