"""A network's own output as its loss: l = prediction.

Derivation.

    dprediction = dl

Cache: a stand-in for l.
"""

from __future__ import annotations

import torch

from lincoln_fn.core import constructor, stand_in
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss


def forward(prediction: Elements, target: None) -> tuple[Elements, Elements]:
    """Compute l = prediction."""
    return prediction, stand_in(prediction)


def backward(like: Elements, dl: Cotangent) -> Elements:
    """Compute dprediction = dl."""
    return torch.ones_like(like) * dl


@constructor
def identity(*, reduction: Reduction = "mean") -> Loss:
    """Make the loss of a network that computes the loss itself: l = prediction.

    Predictions have any shape, and the target is None.

    Example:
        >>> loss = lf.losses.identity()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), None)
        >>> value, loss.backward(cache)
        (tensor(3.), tensor([0.5000, 0.5000]))
    """
    return make_loss(forward, backward, targets=())
