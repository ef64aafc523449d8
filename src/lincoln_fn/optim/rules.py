"""What the rules of several optimizers have in common, and the checks of hyperparameters."""

from __future__ import annotations

import torch
from torch import Tensor

from lincoln_fn.optim.optimizer import LearningRate


def rate(lr: LearningRate, step: Tensor | None) -> float | Tensor:
    """Read a learning rate.

    Args:
        lr: a number or a schedule.
        step: how many steps were taken before this one; None is enough for a number.

    Returns:
        The number, or what the schedule gives for the step.

    Example:
        >>> rate(0.5, None), rate(lambda step: 0.5 / (step + 1), torch.tensor(1))
        (0.5, tensor(0.2500))
    """
    if not callable(lr):
        return lr
    assert step is not None
    return lr(step)


def descended(p: Tensor, direction: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr direction, in one pass whatever lr is.

    Args:
        p: a parameter.
        direction: of its shape.
        lr: a number, or a tensor of shape ().

    Returns:
        The moved parameter.

    Example:
        >>> descended(torch.tensor(3.0), torch.tensor(2.0), 0.5)
        tensor(2.)
    """
    if isinstance(lr, Tensor):
        return torch.addcmul(p, direction, lr, value=-1)
    return torch.sub(p, direction, alpha=lr)


def descended_over(p: Tensor, a: Tensor, b: Tensor, lr: float | Tensor) -> Tensor:
    """Compute p - lr a / b.

    Args:
        p: a parameter.
        a: of its shape.
        b: of its shape.
        lr: a number, or a tensor of shape ().

    Returns:
        The moved parameter.

    Example:
        >>> descended_over(torch.tensor(3.0), torch.tensor(2.0), torch.tensor(4.0), 0.5)
        tensor(2.7500)
    """
    if isinstance(lr, Tensor):
        return torch.addcmul(p, a / b, lr, value=-1)
    return torch.addcdiv(p, a, b, value=-lr)


def slope(p: Tensor, dp: Tensor, weight_decay: float, maximize: bool) -> Tensor:
    """Compute the gradient of the loss with its penalty: dp + weight_decay p, or -dp + ... .

    Args:
        p: a parameter.
        dp: its gradient.
        weight_decay: the factor of the penalty |p|^2 / 2.
        maximize: whether the loss is climbed.

    Returns:
        The gradient to descend along; dp itself where nothing is to be done.

    Example:
        >>> slope(torch.tensor(3.0), torch.tensor(2.0), 0.5, maximize=True)
        tensor(-0.5000)
    """
    if maximize:
        dp = dp.neg()
    return dp.add(p, alpha=weight_decay) if weight_decay else dp


def shrunk(p: Tensor, lr: float | Tensor, weight_decay: float) -> Tensor:
    """Compute (1 - lr weight_decay) p, weight decay that the gradient does not see.

    Args:
        p: a parameter.
        lr: a number, or a tensor of shape ().
        weight_decay: how strongly p is shrunk.

    Returns:
        The smaller parameter; p itself where nothing is to be done.

    Example:
        >>> shrunk(torch.tensor(4.0), 0.5, 0.5)
        tensor(3.)
    """
    return p * (1 - lr * weight_decay) if weight_decay else p


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
    """Check the hyperparameters that most optimizers have.

    Args:
        name: the optimizer's name.
        lr: above 0, or a schedule.
        betas: each in [0, 1).
        eps: at least 0.
        weight_decay: at least 0.

    Raises:
        ValueError: naming the first that is not so.
    """
    require(name, "lr above 0", lr, callable(lr) or lr > 0)
    require(name, "betas in [0, 1)", betas, all(0 <= beta < 1 for beta in betas))
    require(name, "eps of at least 0", eps, eps >= 0)
    require(name, "weight_decay of at least 0", weight_decay, weight_decay >= 0)
