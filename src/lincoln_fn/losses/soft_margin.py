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
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import logsigmoid

from lincoln_fn.core.constructors import constructor
from lincoln_fn.core.record import record
from lincoln_fn.losses.common.reduction import Cotangent, make_loss
from lincoln_fn.losses.common.targets import signs
from lincoln_fn.losses.loss import Loss, Reduction


@record
class Cache:
    """The logits and the labels."""

    x: Float[Tensor, "*s"]
    y: Float[Tensor, "*s"]


def forward(x: Float[Tensor, "*s"], target: Tensor) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute l = -log s(y x)."""
    y = signs("soft_margin", target, tuple(x.shape), x)
    return -logsigmoid(y * x), Cache(x, y)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "*s"]:
    """Compute dx = -y s(-y x) dl."""
    return -cache.y * torch.sigmoid(-cache.y * cache.x) * dl


@constructor
def soft_margin(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on logits x, for labels 1 and -1: l = log(1 + exp(-y x)).

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on x of any shape and labels y, 1 or -1, of that shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = lf.losses.soft_margin(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.0, 1e4]), torch.tensor([1, -1]))
        >>> value, loss.backward(cache)
        (tensor(10000.6934), tensor([-0.5000,  1.0000]))
    """
    return make_loss(reduction, forward, backward)
