"""Logistic loss on z, the logarithm of the probability of class 1, for labels y from 0 to 1.

Derivation. With p = e^z,

    l = -y z - (1 - y) log(1 - e^z)
    (dl)/(dz) = -y + (1 - y) e^z / (1 - e^z) = (1 - y) / (e^(-z) - 1) - y
    dz = ((1 - y) / (e^(-z) - 1) - y) dl

Computed directly, log(1 - e^z) loses all digits near z = 0. It is computed as log(-expm1(z)) where
z > -log 2, else as log1p(-e^z) (Maechler, "Accurately computing log(1 - exp(-|a|))", 2012, equation
7). z is clamped to at most -2^(-126), so that a probability that rounds to 1 gives a loss of at
most 87.3. `sigmoid_cross_entropy`, on logits, has no such limit.

Cache: z and y.
"""

from __future__ import annotations

import math
from typing import Final

import torch

from lincoln_fn.core import Elements, constructor
from lincoln_fn.losses.common.checks import check_log_probabilities, probabilities
from lincoln_fn.losses.internal import SMALLEST, Cotangent, Loss, Reduction, Tensors, make_loss

_MEND: Final = "end the net with log_sigmoid(), or take sigmoid_cross_entropy() on logits"


def forward(z: Elements, y: Elements) -> tuple[Elements, Tensors]:
    """Compute l = -y z - (1 - y) log(1 - e^z)."""
    z = z.clamp(max=-max(SMALLEST, torch.finfo(z.dtype).tiny))
    return -y * z - (1 - y) * _log1mexp(z), (z, y)


def backward(cache: Tensors, dl: Cotangent) -> Elements:
    """Compute dz = ((1 - y) / (e^(-z) - 1) - y) dl."""
    z, y = cache
    return ((1 - y) / torch.expm1(-z) - y) * dl


def _log1mexp(z: Elements) -> Elements:
    """Compute log(1 - e^z) for z < 0."""
    near = z > -math.log(2)
    # Each branch gets only numbers of its own range: the other's slope is infinite near z = 0.
    far = torch.log1p(-torch.exp(torch.where(near, -1.0, z)))
    return torch.where(near, torch.log(-torch.expm1(z)), far)


@constructor
def log_sigmoid_loss(*, reduction: Reduction = "mean") -> Loss:
    """Make the logistic loss on log-probabilities z = log p of class 1.

    l = -y z - (1 - y) log(1 - e^z), with y the label. z has any shape, and the labels, from 0 to 1,
    the same or, for z of shape (N, 1), shape (N,).

    Example:
        >>> loss = lf.losses.log_sigmoid_loss(reduction="sum")
        >>> value, cache = loss.forward(torch.tensor([0.5, 0.5]).log(), torch.tensor([1, 0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([-1.,  1.]))
    """
    return make_loss(
        forward, backward, reads=probabilities, check=check_log_probabilities, mend=_MEND
    )
