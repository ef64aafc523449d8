"""Logistic loss on logits x: `sigmoid` and `log_loss` in one, with no limit on x.

Derivation. The probability of class 1 is s(x), with s the sigmoid, and that of class 0 is
1 - s(x) = s(-x). y is the label, from 0 to 1, and w and r are weights, 1 unless given:

    l = -w r y log s(x) - w (1 - y) log s(-x)
    (d log s(x))/(dx) = 1 - s(x) = s(-x)
    (d log s(-x))/(dx) = -s(x)
    dx = (w (1 - y) s(x) - w r y s(-x)) dl

For w = r = 1 this is (s(x) - y) dl, in a form that loses no digits where s(x) is near y.

Cache: x, y_0 = w (1 - y) and y_1 = w r y.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Elements, constructor
from lincoln_fn.losses.common.labels import ElementWeights, of_elements
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, probabilities

NAME = "sigmoid_cross_entropy"


def forward(
    x: Elements, y: Elements, *, weight: Tensor | None, pos_weight: Tensor | None
) -> tuple[Elements, Tensors]:
    """Compute l = -y1 log s(x) - y0 log s(-x), with y1 = w r y and y0 = w (1 - y)."""
    y0, y1 = 1 - y, y
    if pos_weight is not None:
        y1 = y1 * of_elements(NAME, "pos_weight", pos_weight, x)
    if weight is not None:
        w = of_elements(NAME, "weight", weight, x)
        y0, y1 = y0 * w, y1 * w
    return -y1 * logsigmoid(x) - y0 * logsigmoid(-x), (x, y0, y1)


def backward(cache: Tensors, dl: Cotangent) -> Elements:
    """Compute dx = (y0 s(x) - y1 s(-x)) dl."""
    x, y0, y1 = cache
    return (y0 * torch.sigmoid(x) - y1 * torch.sigmoid(-x)) * dl


@constructor
def sigmoid_cross_entropy(
    *,
    weight: ElementWeights | None = None,
    pos_weight: ElementWeights | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the logistic loss on logits x: `sigmoid` and `log_loss` in one, without their limits.

    l = w (-r y log s(x) - (1 - y) log s(-x)), with s the sigmoid and y the label. x has any shape,
    and the labels, from 0 to 1, the same or, for x of shape (N, 1), shape (N,).

    Args:
        weight: w, which broadcasts to x; None for ones. A mean divides by the number of elements.
        pos_weight: r, which broadcasts to x; None for ones. Above 1, it favours recall.

    Example:
        >>> loss = lf.losses.sigmoid_cross_entropy(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """
    return make_loss(forward, backward, reads=probabilities)
