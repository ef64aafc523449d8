"""Logistic loss on p, the probability of class 1, for labels y from 0 to 1.

Derivation. eta keeps the logarithms finite, and w is a weight, 1 unless given:

    l = w (-y log(p + eta) - (1 - y) log(1 - p + eta))
    (dl)/(dp) = w ((1 - y) / (1 - p + eta) - y / (p + eta))    since (d log u)/(du) = 1 / u
    dp = ((1 - y) / (1 - p + eta) - y / (p + eta)) w dl

Cache: p, y, w and eta.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from jaxtyping import Float
from torch import Tensor

from lincoln_fn.core import Arrays, NonNegative, constructor, record, static
from lincoln_fn.losses.common.predictions import check_probabilities
from lincoln_fn.losses.common.reduction import Cotangent, make_loss
from lincoln_fn.losses.common.targets import probabilities
from lincoln_fn.losses.common.weights import ElementWeights, Weights, weights_of
from lincoln_fn.losses.loss import Loss, Reduction


@record
class Cache:
    """The probabilities, the labels, the weight and eta."""

    p: Float[Tensor, "*s"]
    y: Float[Tensor, "*s"]
    w: Float[Tensor, " ..."] | None
    eta: float = static()


def forward(
    p: Float[Tensor, "*s"], target: Tensor, *, weight: Weights | None, eta: float
) -> tuple[Float[Tensor, "*s"], Cache]:
    """Compute l = w (-y log(p + eta) - (1 - y) log(1 - p + eta))."""
    y = probabilities("log_loss", target, p)
    w = None if weight is None else weight.of_elements(p)
    eta = max(eta, torch.finfo(p.dtype).tiny)  # a short dtype would round eta to 0
    loss = -torch.log(p + eta) * y - torch.log(1 - p + eta) * (1 - y)
    return loss if w is None else w * loss, Cache(p, y, w, eta)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "*s"]:
    """Compute dp = ((1 - y) / (1 - p + eta) - y / (p + eta)) w dl."""
    p, y, w, eta = cache.p, cache.y, cache.w, cache.eta
    return ((1 - y) / (1 - p + eta) - y / (p + eta)) * (dl if w is None else w * dl)


_MEND: Final = "end the net with sigmoid(), or take sigmoid_cross_entropy() on logits"


def _check(p: Arrays, target: Arrays) -> None:
    check_probabilities("log_loss", _MEND, p)


@constructor
def log_loss(
    *, weight: ElementWeights | None = None, reduction: Reduction = "mean", eta: NonNegative = 1e-8
) -> Loss:
    """Make the logistic loss on probabilities, the binary cross-entropy.

    l = w (-y log(p + eta) - (1 - y) log(1 - p + eta)), with p the probability of class 1, and y the
    label.

    Args:
        weight: w, which broadcasts to p; None for ones. A mean still divides by the number of
            elements.
        reduction: "mean" over the elements, "sum" of them, or "none".
        eta: the small number added to each probability, which keeps the logarithms finite.

    Returns:
        The loss, on p of any shape within [0, 1], and labels of its shape or, for p of shape
        (N, 1), of shape (N,). A floating label between 0 and 1 is a probability of class 1 (a soft
        label).

    Raises:
        ValueError: if there is no such reduction, or weight is not a floating tensor.

    Example:
        >>> loss = lf.losses.log_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-2.,  2.]))
    """
    weights = weights_of("log_loss", "weight", weight)
    return make_loss(reduction, partial(forward, weight=weights), backward, check=_check)
