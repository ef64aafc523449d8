"""Shared by the update rules of several optimizers, and by their adjoints."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.core import is_transformed
from lincoln_fn.optim.optimizer import LearningRate


def learning_rate(lr: LearningRate, step: Tensor | None) -> float | Tensor:
    """Return the number, or the schedule's value after `step` steps."""
    if not callable(lr):
        return lr
    assert step is not None
    return lr(step)


def add_scaled(a: Tensor, b: Tensor, factor: float | Tensor) -> Tensor:
    """Compute a + factor b, without an intermediate tensor for the product."""
    if isinstance(factor, Tensor):
        return torch.addcmul(a, b, factor)
    return a.add(b, alpha=factor)


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


def moments_back(
    dp: Tensor, m_bar: Tensor, v_bar: Tensor, betas: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor]:
    """Undo `moments`: compute the bars of dp and of the old means from those of the new."""
    b1, b2 = betas
    dp_bar = torch.addcmul((1 - b1) * m_bar, dp, v_bar, value=2 * (1 - b2))
    return dp_bar, b1 * m_bar, b2 * v_bar


def ratio_back(u: Tensor, u_bar: Tensor, s: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
    """Undo u = n / s with s = sqrt(v) + eps: compute bar n, and bar v, which is 0 where v is 0."""
    n_bar = u_bar / s
    return n_bar, -u * n_bar * torch.where(v == 0, 0, 0.5 * v.rsqrt())


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
