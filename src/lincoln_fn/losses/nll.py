"""Negative log-likelihood of the label c, on log-probabilities z.

Derivation. Only z_c enters; w are the classes' weights, 1 unless given:

    l = -w_c z_c
    (dl)/(dz_j) = {(-w_c, if j = c), (0, otherwise):}
    dz_j = {(-w_c dl, if j = c), (0, otherwise):}

A mean divides by the sum of the w_c.

Cache: z, c and w_c.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.checks import check_log_distribution, check_log_probabilities
from lincoln_fn.losses.common.labels import ClassWeights, read_labels, total_weight, weighted_values
from lincoln_fn.losses.internal import Cotangent, Labels, Loss, Reduction, make_loss, per_example

_MEND: Final = "end the net with log_softmax(), or take softmax_cross_entropy() on logits"
Cache = tuple[Labels, Float[Tensor, "N C *s"]]


def forward(
    z: Float[Tensor, "N C *s"], target: Int[Tensor, " N *s"],
    *, weight: Tensor | None, ignore_index: int, dim: int = 1,
) -> tuple[Float[Tensor, " N *s"], Cache]:  # fmt: skip
    """Compute l = -w_c z_c."""
    labels = read_labels("nll", z, target, weight, ignore_index, dim)
    return weighted_values(-z.gather(dim, labels.index), labels), (labels, z)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "N C *s"]:
    """Compute dz_j = -w_c dl for j = c, else 0."""
    labels, z = cache
    dz_c = -labels.weights(z) * per_example(dl, labels.dim)
    return torch.zeros_like(z).scatter(labels.dim, labels.index, dz_c)


@constructor
def nll(
    *,
    weight: ClassWeights | None = None,
    ignore_index: int = -100,
    dim: int = 1,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the negative log-likelihood of the label c, on log-probabilities z.

    l = -w_c z_c. The mean is weighted, sum l / sum w_c. z has shape (N, C) or (N, C, ...), and the
    target are class indices (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too.

    Args:
        ignore_index: examples of this label have value and gradient 0, and means leave them out.
        dim: the axis of the classes.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.nll()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-1.,  0.]]))
    """
    return make_loss(
        forward, backward, count=total_weight,
        check=check_log_probabilities, check_first=check_log_distribution, mend=_MEND,
    )  # fmt: skip
