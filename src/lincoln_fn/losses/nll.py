"""Negative log-likelihood of the label c, on log-probabilities z.

Derivation. Only z_c enters; w are the classes' weights, 1 unless given:

    l = -w_c z_c
    (dl)/(dz_j) = {(-w_c, if j = c), (0, otherwise):}
    dz_j = {(-w_c dl, if j = c), (0, otherwise):}

A mean divides by the sum of the w_c.

Cache: z, c and w_c.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import Arrays, constructor, record
from lincoln_fn.losses.common.labels import Labels, read_labels, total_weight, weighted
from lincoln_fn.losses.common.predictions import check_log_distribution, check_log_probabilities
from lincoln_fn.losses.common.reduction import Cotangent, make_loss, per_example
from lincoln_fn.losses.common.weights import ClassWeights, Weights, weights_of
from lincoln_fn.losses.loss import Loss, Reduction


@record
class Cache:
    """The log-probabilities and the labels."""

    z: Float[Tensor, "N C *s"]
    labels: Labels


def forward(
    z: Float[Tensor, "N C *s"],
    target: Int[Tensor, " N *s"],
    *,
    weight: Weights | None,
    ignore_index: int,
    dim: int = 1,
) -> tuple[Float[Tensor, " N *s"], Cache]:
    """Compute l = -w_c z_c."""
    labels = read_labels("nll", z, target, weight, ignore_index, dim)
    return weighted(-z.gather(dim, labels.index), labels), Cache(z, labels)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "N C *s"]:
    """Compute dz_j = -w_c dl for j = c, else 0."""
    index, w, dim = cache.labels.index, cache.labels.w, cache.labels.dim
    return torch.zeros_like(cache.z).scatter(dim, index, -w * per_example(dl, dim))


def count(ignore_index: int, cache: Cache) -> Tensor:
    """Compute sum w_c, which a mean divides by."""
    return total_weight("nll", ignore_index, cache.labels.w)


_MEND: Final = "end the net with log_softmax(), or take softmax_cross_entropy() on logits"


def _check(z: Arrays, target: Arrays) -> None:
    check_log_probabilities("nll", _MEND, z)


def _check_first(z: Arrays, target: Arrays, *, dim: int = 1) -> None:
    check_log_distribution("nll", _MEND, z, dim)


@constructor
def nll(
    *,
    weight: ClassWeights | None = None,
    ignore_index: int = -100,
    dim: int = 1,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the negative log-likelihood of the label c, on log-probabilities z.

    l = -w_c z_c. The mean is weighted, sum l / sum w_c.

    Args:
        weight: w, of shape (C,); None for ones.
        ignore_index: the label of examples to ignore: value and gradient are 0, and means leave
            them out.
        dim: the axis of the classes.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Returns:
        The loss, on z of shape (N, C) or (N, C, ...) and class indices of shape (N,) or (N, ...);
        for (N, C) a column (N, 1) is accepted too. With another dim, the classes are on that axis.

    Raises:
        ValueError: if there is no such reduction, or weight is not of one axis.

    Example:
        >>> loss = lf.losses.nll()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]).log(), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-1.,  0.]]))
    """
    weights = weights_of("nll", "weight", weight)
    return make_loss(
        reduction,
        partial(forward, weight=weights),
        backward,
        count=partial(count, ignore_index),
        check=_check,
        check_first=_check_first,
    )
