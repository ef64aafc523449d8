"""Logistic loss on logits x, for labels y that are 1 or -1.

Derivation. With s the sigmoid,

    l = log(1 + e^(-y x)) = -log s(y x)
    (d log s(u))/(du) = s(-u)
    dx = -y s(-y x) dl

It is finite for every x. In torch, for y x below -89, the value is infinite and the gradient nan.

Cache: x and y.
"""

from __future__ import annotations

import torch
from torch.nn.functional import logsigmoid

from lincoln_fn.core import Elements, constructor
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, signs


def forward(x: Elements, y: Elements) -> tuple[Elements, Tensors]:
    """Compute l = -log s(y x)."""
    return -logsigmoid(y * x), (x, y)


def backward(cache: Tensors, dl: Cotangent) -> Elements:
    """Compute dx = -y s(-y x) dl."""
    x, y = cache
    return -y * torch.sigmoid(-y * x) * dl


@constructor
def soft_margin(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on logits x, for labels 1 and -1: l = log(1 + exp(-y x)).

    x has any shape, and the labels y the same.

    Example:
        >>> loss = lf.losses.soft_margin(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, -1]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """
    return make_loss(forward, backward, reads=signs)
