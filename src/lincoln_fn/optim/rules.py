"""What the update rules of several optimizers have in common, and the checks of hyperparameters."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.optim.optimizer import LearningRate


def learning_rate(lr: LearningRate, step: Tensor | None) -> float | Tensor:
    """Return the number, or what the schedule gives after `step` steps; a number needs no step."""
    if not callable(lr):
        return lr
    assert step is not None
    return lr(step)


def regularized_gradient(p: Tensor, dp: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """Compute dp + weight_decay p, the gradient with that of the penalty weight_decay |p|^2 / 2.

    To maximize the loss, -dp stands in place of dp.
    """
    if maximize:
        dp = dp.neg()
    return dp.add(p, alpha=weight_decay) if weight_decay else dp


def decay_weight(p: Tensor, lr: float | Tensor, weight_decay: float) -> Tensor:
    """Compute (1 - lr weight_decay) p, weight decay that is decoupled from the gradient."""
    return p * (1 - lr * weight_decay) if weight_decay else p


def running_mean(mean: Tensor, new: Tensor, decay: float) -> Tensor:
    """Compute decay mean + (1 - decay) new."""
    return torch.lerp(mean, new, 1 - decay)


def take_step(p: Tensor, direction: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr direction, without a tensor for the product."""
    if isinstance(lr, Tensor):
        return torch.addcmul(p, direction, lr, value=-1)
    return torch.sub(p, direction, alpha=lr)


def take_scaled_step(p: Tensor, direction: Tensor, scale: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr direction / scale, without tensors for the terms."""
    if isinstance(lr, Tensor):
        return torch.addcmul(p, direction / scale, lr, value=-1)
    return torch.addcdiv(p, direction, scale, value=-lr)


def require(name: str, what: str, given: object, holds: bool) -> None:
    """Check a hyperparameter.

    Args:
        name: the optimizer's name.
        what: what is expected, such as "lr above 0".
        given: the value.
        holds: whether it is as expected.

    Raises:
        ValueError: if it is not.

    Example:
        >>> require("sgd", "lr above 0", -1, False)
        Traceback (most recent call last):
        ValueError: sgd: expected lr above 0, got -1
    """
    if not holds:
        raise ValueError(f"{name}: expected {what}, got {given}")


def check_common(
    name: str,
    lr: LearningRate,
    *,
    betas: tuple[float, float] = (0.0, 0.0),
    eps: float = 0.0,
    weight_decay: float = 0.0,
) -> None:
    """Check the hyperparameters that most optimizers have, and name the first that is wrong."""
    require(name, "lr above 0", lr, callable(lr) or lr > 0)
    require(name, "betas in [0, 1)", betas, all(0 <= beta < 1 for beta in betas))
    require(name, "eps of at least 0", eps, eps >= 0)
    require(name, "weight_decay of at least 0", weight_decay, weight_decay >= 0)
