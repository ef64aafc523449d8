"""Absolute error: l = |d| with d = prediction - target.

Derivation. d has the derivative 1 with respect to the prediction, so

    (dl)/(dprediction) = (dl)/(dd) = sign(d)    taken as 0 at d = 0
    dprediction = sign(d) dl

Cache: d.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.reduction import Cotangent, make_loss
from lincoln_fn.losses.common.targets import same_shape
from lincoln_fn.losses.loss import Loss, Reduction


def forward(
    prediction: Float[Tensor, "*s"], target: Tensor
) -> tuple[Float[Tensor, "*s"], Float[Tensor, "*s"]]:
    """Compute l = |d|."""
    d = prediction - same_shape("l1", target, prediction)
    return d.abs(), d


def backward(d: Float[Tensor, "*s"], dl: Cotangent) -> Float[Tensor, "*s"]:
    """Compute dprediction = sign(d) dl."""
    return d.sign() * dl


@constructor
def l1(*, reduction: Reduction = "mean") -> Loss:
    """Make the absolute error: |d| with d = prediction - target.

    Args:
        reduction: "mean" over the elements, "sum" of them, or "none".

    Returns:
        The loss, on predictions of any shape and targets of that shape.

    Raises:
        ValueError: if there is no such reduction.

    Example:
        >>> loss = lf.losses.l1()
        >>> value, cache = loss.forward(torch.tensor([1.0, 5.0]), torch.tensor([0.0, 2.0]))
        >>> value, loss.backward(cache)
        (tensor(2.), tensor([0.5000, 0.5000]))
    """
    return make_loss(reduction, forward, backward)
