"""Logistic loss of each class on its own, on logits x, averaged over the C classes.

Derivation. With s the sigmoid, y_j the labels from 0 to 1, and w the weights, 1 unless given,

    l = -1 / C sum_j w_j (y_j log s(x_j) + (1 - y_j) log s(-x_j))
    (d log s(x))/(dx) = 1 - s(x) = s(-x)
    (d log s(-x))/(dx) = -s(x)
    dx_j = ((1 - y_j) s(x_j) - y_j s(-x_j)) w_j / C dl

Cache: x, y and w_j / C.
"""

from __future__ import annotations

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.checks import check_classes_last, check_shape, probabilities
from lincoln_fn.losses.common.labels import ClassWeights, of_classes
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, per_example

NAME = "multi_label_soft_margin"
Scores = Float[Tensor, "*n C"]


def forward(
    x: Scores, target: Tensor, *, weight: Tensor | None
) -> tuple[Float[Tensor, "*n"], Tensors]:
    """Compute l = -1 / C sum_j w_j (y_j log s(x_j) + (1 - y_j) log s(-x_j))."""
    n = check_classes_last(NAME, x)
    check_shape(NAME, target, tuple(x.shape), x)
    y = probabilities(NAME, target, x)
    scale = (x.new_ones(n) if weight is None else of_classes(NAME, weight, n, x)) / n
    loss = -(y * logsigmoid(x) + (1 - y) * logsigmoid(-x)) * scale
    return loss.sum(-1), (x, y, scale)


def backward(cache: Tensors, dl: Cotangent) -> Scores:
    """Compute dx_j = ((1 - y_j) s(x_j) - y_j s(-x_j)) w_j / C dl."""
    x, y, scale = cache
    slope = (1 - y) * torch.sigmoid(x) - y * torch.sigmoid(-x)
    return slope * scale * per_example(dl, -1)


@constructor
def multi_label_soft_margin(
    *, weight: ClassWeights | None = None, reduction: Reduction = "mean"
) -> Loss:
    """Make the logistic loss of each class on its own, on logits x, averaged over the classes.

    l = -1 / C sum_j w_j (y_j log s(x_j) + (1 - y_j) log s(-x_j)), with s the sigmoid. x has shape
    (N, C) or (C), and the labels, from 0 to 1, the same.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.multi_label_soft_margin()
        >>> value, cache = loss.forward(torch.tensor([[0.0, 0.0]]), torch.tensor([[1, 0]]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-0.2500,  0.2500]]))
    """
    return make_loss(forward, backward)
