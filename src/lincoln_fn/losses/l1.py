"""Absolute error: l = |d| with d = prediction - target.

Derivation. d has the derivative 1 with respect to the prediction, so

    (dl)/(dprediction) = (dl)/(dd) = sign(d)    taken as 0 at d = 0
    dprediction = sign(d) dl

Cache: d.
"""

from __future__ import annotations

from lincoln_fn.core import constructor
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss, same_shape


def forward(prediction: Elements, target: Elements) -> tuple[Elements, Elements]:
    """Compute l = |d|."""
    d = prediction - target
    return d.abs(), d


def backward(d: Elements, dl: Cotangent) -> Elements:
    """Compute dprediction = sign(d) dl."""
    return d.sign() * dl


@constructor
def l1(*, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error: |d| with d = prediction - target.

    Predictions have any shape, and targets the same.

    Example:
        >>> loss = lf.losses.l1()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.), tensor([0.5000, 0.5000]))
    """
    return make_loss(forward, backward, reads=same_shape)
