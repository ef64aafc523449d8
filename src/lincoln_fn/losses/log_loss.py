"""Logistic loss on p, the probability of class 1, for labels y from 0 to 1.

Derivation. eta keeps the logarithms finite, and w is a weight, 1 unless given:

    l = w (-y log(p + eta) - (1 - y) log(1 - p + eta))
    (dl)/(dp) = w ((1 - y) / (1 - p + eta) - y / (p + eta))    since (d log u)/(du) = 1 / u
    dp = ((1 - y) / (1 - p + eta) - y / (p + eta)) w dl

Cache: p, y and w.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.core import NonNegative, constructor
from lincoln_fn.losses.common.checks import check_probabilities, probabilities
from lincoln_fn.losses.common.labels import ElementWeights, of_elements
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, Reduction, make_loss

_MEND: Final = "end the net with sigmoid(), or take sigmoid_cross_entropy() on logits"
Cache = tuple[Elements, Elements, Elements | None]


def forward(
    p: Elements, y: Elements, *, weight: Tensor | None, eta: float
) -> tuple[Elements, Cache]:
    """Compute l = w (-y log(p + eta) - (1 - y) log(1 - p + eta))."""
    w = None if weight is None else of_elements("log_loss", "weight", weight, p)
    eta = _least(p, eta)
    loss = -torch.log(p + eta) * y - torch.log(1 - p + eta) * (1 - y)
    return loss if w is None else w * loss, (p, y, w)


def backward(cache: Cache, dl: Cotangent, *, eta: float) -> Elements:
    """Compute dp = ((1 - y) / (1 - p + eta) - y / (p + eta)) w dl."""
    (p, y, w), eta = cache, _least(cache[0], eta)
    return ((1 - y) / (1 - p + eta) - y / (p + eta)) * (dl if w is None else w * dl)


def _least(p: Elements, eta: float) -> float:
    return max(eta, torch.finfo(p.dtype).tiny)  # a short dtype would round eta to 0


@constructor
def log_loss(
    *, weight: ElementWeights | None = None, reduction: Reduction = "mean", eta: NonNegative = 1e-8
) -> Loss:
    """Make the logistic loss on probabilities, the binary cross-entropy.

    l = w (-y log(p + eta) - (1 - y) log(1 - p + eta)), with p the probability of class 1. p has any
    shape, and the labels y, from 0 to 1, the same or, for p of shape (N, 1), shape (N,).

    Args:
        weight: w, which broadcasts to p; None for ones. A mean divides by the number of elements.
        eta: the small number added to each probability, which keeps the logarithms finite.

    Example:
        >>> loss = lf.losses.log_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-2.,  2.]))
    """
    return make_loss(forward, backward, reads=probabilities, check=check_probabilities, mend=_MEND)
