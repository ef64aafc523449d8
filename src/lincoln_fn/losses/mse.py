"""Mean squared error: l = d^2 with d = prediction - target.

Derivation. d has the derivative 1 with respect to the prediction, so

    (dl)/(dprediction) = (dl)/(dd) = 2 d
    dprediction = 2 d dl

Cache: d.
"""

from __future__ import annotations

from lincoln_fn.core import constructor
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss, same_shape


def forward(prediction: Elements, target: Elements) -> tuple[Elements, Elements]:
    """Compute l = d^2."""
    d = prediction - target
    return d * d, d


def backward(d: Elements, dl: Cotangent) -> Elements:
    """Compute dprediction = 2 d dl."""
    return 2 * d * dl


@constructor
def mse(*, reduction: Reduction = "mean") -> Loss:
    """Make the squared error: d^2 with d = prediction - target.

    Predictions have any shape, and targets the same.

    Example:
        >>> loss = lf.losses.mse()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(5.), tensor([1., 3.]))
    """
    return make_loss(forward, backward, reads=same_shape)
