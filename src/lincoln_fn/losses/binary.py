"""Losses for two classes, one prediction an example: the same loss from p, from log p, from logits.

With y the label, 1 or 0, and p the probability of class 1, each of them is

    l = -y log p - (1 - y) log(1 - p).

Labels are class indices, of the prediction's shape or, for a prediction of shape (N, 1), of shape
(N,). A floating label between 0 and 1 is a probability of class 1 (a soft label).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.losses.loss import SMALLEST, Loss, Reduction, reduced, value_range
from lincoln_fn.shapes import LayerError


def log_loss(*, reduction: Reduction = "mean", eta: float = 1e-8) -> Loss:
    """Make the logistic loss on probabilities.

    l = -y log(p + eta) - (1 - y) log(1 - p + eta), where eta keeps the logarithms finite.

    Derivation. d log(u)/du = 1/u, so

        dl/dp = -y / (p + eta) + (1 - y) / (1 - p + eta).

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".
        eta: the small number added to each probability.

    Returns:
        The loss, on p of any shape within [0, 1] and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = log_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-2.,  2.]))
    """

    def values(p: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = _labels("log_loss", p, target)
        return -torch.log(p + eta) * y - torch.log(1 - p + eta) * (1 - y), (p, y)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        p, y = kept
        return ((1 - y) / (1 - p + eta) - y / (p + eta)) * dl

    return reduced("log_loss", reduction, values, slope, eta=(eta, 1e-8))


def log_sigmoid_loss(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on log-probabilities z = log p of class 1.

    l = -y z - (1 - y) log(1 - e^z).

    Derivation. d log(1 - e^z)/dz = -e^z / (1 - e^z), so

        dl/dz = -y + (1 - y) e^z / (1 - e^z) = -y + (1 - y) / (e^-z - 1).

    log(1 - e^z) loses all digits near z = 0 as it stands, and is computed by two branches: for
    z > -log 2 as log(-expm1(z)), else as log1p(-exp(z)) (Maechler, "Accurately computing
    log(1 - exp(-|a|))", 2012, equation 7). z is kept below 0 by 2^-126, so that a probability that
    rounds to 1 costs at most 87.3; where logits are at hand, `sigmoid_cross_entropy` has no limit.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on z of any shape, at most 0, and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = log_sigmoid_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]).log(), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-1.,  1.]))
    """

    def values(z: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = _labels("log_sigmoid_loss", z, target)
        z = z.clamp(max=-max(SMALLEST, torch.finfo(z.dtype).tiny))
        log1mexp = torch.where(
            z > -0.6931471805599453, torch.log(-torch.expm1(z)), torch.log1p(-torch.exp(z))
        )
        return -y * z - (1 - y) * log1mexp, (z, y)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        z, y = kept
        return ((1 - y) / torch.expm1(-z) - y) * dl

    return reduced("log_sigmoid_loss", reduction, values, slope)


def sigmoid_cross_entropy(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on logits x: `sigmoid` and `log_loss` in one, without their limits.

    l = -y log s(x) - (1 - y) log s(-x), where s is the sigmoid and s(-x) = 1 - s(x).

    Derivation. d log s(x)/dx = 1 - s(x) = s(-x), and d log s(-x)/dx = -s(x), so

        dl/dx = -y s(-x) + (1 - y) s(x),

    which is s(x) - y, written so that nothing cancels where s(x) is near y.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape and labels as the module says.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = sigmoid_cross_entropy(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        y = _labels("sigmoid_cross_entropy", x, target)
        return -y * logsigmoid(x) - (1 - y) * logsigmoid(-x), (x, y)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        x, y = kept
        return ((1 - y) * torch.sigmoid(x) - y * torch.sigmoid(-x)) * dl

    return reduced("sigmoid_cross_entropy", reduction, values, slope)


def _labels(name: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Read labels as probabilities of class 1, in the prediction's shape and dtype."""
    if target.shape != prediction.shape and (*target.shape, 1) != prediction.shape:
        shape = tuple(prediction.shape)
        wanted = f"{shape[:-1]} or {shape}" if shape[-1:] == (1,) else f"{shape}"
        problem = f"expected target of shape {wanted} for prediction {shape}, got"
        raise LayerError(name, f"{problem} {tuple(target.shape)}")
    y = target.to(prediction.dtype).view(prediction.shape)
    ends = value_range(y)
    if ends and not (ends[0] >= 0 and ends[1] <= 1):
        wrong = ends[0] if not ends[0] >= 0 else ends[1]
        raise LayerError(name, f"expected labels 0 or 1, or between them, got {wrong:g}")
    return y
