"""Focal loss on logits x: the logistic loss, with less weight for what is already right.

y is the label, 0 or 1, and s = (2 y - 1) x the logit of the label itself. With the sigmoid sigma,
p = sigma(s) is its probability, and w = alpha for y = 1, 1 - alpha for y = 0:

    l = -w (1 - p)^gamma log p

Derivation. 1 - p = sigma(-s), and (d sigma(-s))/(ds) = -p (1 - p), (d log p)/(ds) = 1 - p. So

    (dl)/(ds) = w (1 - p)^gamma (gamma p log p - (1 - p))
    dx = (2 y - 1) (dl)/(ds) dl

(1 - p)^gamma is computed as e^(gamma log sigma(-s)), which is accurate where p is near 1.

Cache: s, 2 y - 1 and w. Source: Lin et al., "Focal loss for dense object detection", 2017.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Elements, NonNegative, Probability, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, hard_labels, make_loss


def forward(
    x: Elements, y: Elements, *, alpha: float | None, gamma: float
) -> tuple[Elements, Tensors]:
    """Compute l = -w (1 - p)^gamma log p."""
    sign = 2 * y - 1
    w = torch.ones_like(y) if alpha is None else alpha * y + (1 - alpha) * (1 - y)
    s = sign * x
    return -w * _power(s, gamma) * logsigmoid(s), (s, sign, w)


def backward(cache: Tensors, dl: Cotangent, *, gamma: float) -> Elements:
    """Compute dx = (2 y - 1) w (1 - p)^gamma (gamma p log p - (1 - p)) dl."""
    s, sign, w = cache
    inner = gamma * torch.sigmoid(s) * logsigmoid(s) - torch.sigmoid(-s)
    return sign * w * _power(s, gamma) * inner * dl


def _power(s: Elements, gamma: float) -> Elements:
    return torch.exp(gamma * logsigmoid(-s))


@constructor
def focal(
    *,
    alpha: Probability | None = 0.25,
    gamma: NonNegative = 2.0,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the focal loss on logits, torchvision's `sigmoid_focal_loss`.

    l = -w (1 - p)^gamma log p, with p the probability of the label, and w = alpha for the label 1,
    1 - alpha for 0. It is for rare classes: many easy examples of the other one count little.
    Logits have any shape, and labels the same or, for x of shape (N, 1), shape (N,).

    Args:
        alpha: the weight of the label 1; None for no weights.
        gamma: the higher, the less counts what is already right; 0 makes the logistic loss.

    Example:
        >>> loss = lf.losses.focal(alpha=None)
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, 1]))
        >>> value, loss.backward(cache)
        (tensor(0.0866), tensor([-0.1491,  0.0000]))
    """
    return make_loss(forward, backward, reads=hard_labels)
