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

from lincoln_fn.losses.labels import frozen, probabilities
from lincoln_fn.losses.loss import SMALLEST, Loss, Reduction, reduced


def log_loss(
    *, weight: Tensor | None = None, reduction: Reduction = "mean", eta: float = 1e-8
) -> Loss:
    """Make the logistic loss on probabilities.

    l = w (-y log(p + eta) - (1 - y) log(1 - p + eta)), where eta keeps the logarithms finite.

    Derivation. d log(u)/du = 1/u, so

        dl/dp = w (-y / (p + eta) + (1 - y) / (1 - p + eta)).

    Args:
        weight: w, which broadcasts to p; None for ones. A mean is over the elements all the same.
        reduction: "mean" over the elements, "sum" of them, or "none".
        eta: the small number added to each probability.

    Returns:
        The loss, on p of any shape within [0, 1] and labels as the module says.

    Raises:
        ValueError: if there is no such reduction, or weight is not a floating tensor.

    Example:
        >>> loss = log_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-2.,  2.]))
    """
    weights = frozen("log_loss", "weight", weight)

    def values(p: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor | None]]:
        y = probabilities("log_loss", p, target)
        w = None if weights is None else weights.broadcast(p)
        small = _representable(eta, p)
        loss = -torch.log(p + small) * y - torch.log(1 - p + small) * (1 - y)
        return loss if w is None else w * loss, (p, y, w)

    def slope(kept: tuple[Tensor, Tensor, Tensor | None], dl: Tensor | float) -> Tensor:
        p, y, w = kept
        small = _representable(eta, p)
        return ((1 - y) / (1 - p + small) - y / (p + small)) * (dl if w is None else w * dl)

    return reduced("log_loss", reduction, values, slope, weight=(weights, None), eta=(eta, 1e-8))


def _representable(eta: float, p: Tensor) -> float:
    """Keep eta from rounding to 0 in a short dtype."""
    return max(eta, torch.finfo(p.dtype).tiny)


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
        y = probabilities("log_sigmoid_loss", z, target)
        z = z.clamp(max=-max(SMALLEST, torch.finfo(z.dtype).tiny))
        log1mexp = torch.where(
            z > -0.6931471805599453, torch.log(-torch.expm1(z)), torch.log1p(-torch.exp(z))
        )
        return -y * z - (1 - y) * log1mexp, (z, y)

    def slope(kept: tuple[Tensor, Tensor], dl: Tensor | float) -> Tensor:
        z, y = kept
        return ((1 - y) / torch.expm1(-z) - y) * dl

    return reduced("log_sigmoid_loss", reduction, values, slope)


def sigmoid_cross_entropy(
    *,
    weight: Tensor | None = None,
    pos_weight: Tensor | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the logistic loss on logits x: `sigmoid` and `log_loss` in one, without their limits.

    l = w (-r y log s(x) - (1 - y) log s(-x)), where s is the sigmoid and s(-x) = 1 - s(x).

    Derivation. d log s(x)/dx = 1 - s(x) = s(-x), and d log s(-x)/dx = -s(x), so

        dl/dx = w (-r y s(-x) + (1 - y) s(x)),

    which for w = r = 1 is s(x) - y, written so that nothing cancels where s(x) is near y.

    Args:
        weight: w, which broadcasts to x; None for ones. A mean is over the elements all the same.
        pos_weight: r, which broadcasts to x; None for ones. Above 1, it favours recall.
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape and labels as the module says.

    Raises:
        ValueError: if there is no such reduction, or a weight is not a floating tensor.

    Example:
        >>> loss = sigmoid_cross_entropy(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """
    name = "sigmoid_cross_entropy"
    weights = frozen(name, "weight", weight)
    pos_weights = frozen(name, "pos_weight", pos_weight)

    def values(x: Tensor, target: Tensor) -> tuple[Tensor, tuple[Tensor, Tensor, Tensor]]:
        y = probabilities(name, x, target)
        y0, y1 = 1 - y, y
        if pos_weights is not None:
            y1 = y1 * pos_weights.broadcast(x)
        if weights is not None:
            w = weights.broadcast(x)
            y0, y1 = y0 * w, y1 * w
        return -y1 * logsigmoid(x) - y0 * logsigmoid(-x), (x, y0, y1)

    def slope(kept: tuple[Tensor, Tensor, Tensor], dl: Tensor | float) -> Tensor:
        x, y0, y1 = kept
        return (y0 * torch.sigmoid(x) - y1 * torch.sigmoid(-x)) * dl

    return reduced(
        name,
        reduction,
        values,
        slope,
        weight=(weights, None),
        pos_weight=(pos_weights, None),
    )
