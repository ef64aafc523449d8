"""Cross-entropy of the label c, on probabilities p.

Derivation. Only p_c enters; w are the classes' weights, 1 unless given:

    l = -w_c log p_c
    (dl)/(dp_j) = {(-w_c / p_c, if j = c), (0, otherwise):}
    dp_j = {(-w_c / p_c dl, if j = c), (0, otherwise):}

p_c is clamped to at least 2^(-126) (in float16, to its own smallest normal number). So p_c = 0
gives a loss of 87.3 and a finite gradient. A mean divides by the sum of the w_c.

Cache: p, c and w_c.
"""

from __future__ import annotations

from typing import Final

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.checks import check_distribution, check_probabilities
from lincoln_fn.losses.common.labels import ClassWeights, Labels, read_labels, weighted_values
from lincoln_fn.losses.internal import SMALLEST, Cotangent, make_loss, per_example, total_weight
from lincoln_fn.losses.loss import Loss, Reduction

_MEND: Final = (
    "end the net with softmax(), or take softmax_cross_entropy() on logits, nll() on logs"
)
Cache = tuple[Labels, Float[Tensor, "N C *s"]]


def forward(
    p: Float[Tensor, "N C *s"], target: Int[Tensor, " N *s"],
    *, weight: Tensor | None, ignore_index: int, dim: int = 1,
) -> tuple[Float[Tensor, " N *s"], Cache]:  # fmt: skip
    """Compute l = -w_c log p_c."""
    labels = read_labels("cross_entropy", p, target, weight, ignore_index, dim)
    return weighted_values(-torch.log(_of_label(p, labels)), labels), (labels, p)


def backward(cache: Cache, dl: Cotangent) -> Float[Tensor, "N C *s"]:
    """Compute dp_j = -w_c / p_c dl for j = c, else 0."""
    labels, p = cache
    dp_c = -labels.weights(p) / _of_label(p, labels) * per_example(dl, labels.dim)
    return torch.zeros_like(p).scatter(labels.dim, labels.index, dp_c)


def _of_label(p: Float[Tensor, "N C *s"], labels: Labels) -> Float[Tensor, "N 1 *s"]:
    """Take p_c, clamped to be above 0."""
    return p.gather(labels.dim, labels.index).clamp(min=max(SMALLEST, torch.finfo(p.dtype).tiny))


@constructor
def cross_entropy(
    *,
    weight: ClassWeights | None = None,
    ignore_index: int = -100,
    dim: int = 1,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the cross-entropy of the label c, on probabilities p.

    l = -w_c log p_c, with p_c clamped to at least 2^-126, so that the loss is 87.3 for p_c = 0. The
    mean is weighted, sum l / sum w_c. p has shape (N, C) or (N, C, ...), and the target are class
    indices (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too.

    Args:
        ignore_index: examples of this label have value and gradient 0, and means leave them out.
        dim: the axis of the classes.
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.cross_entropy()
        >>> value, cache = loss.forward(torch.tensor([[0.25, 0.75]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(1.3863), tensor([[-4.,  0.]]))
    """
    return make_loss(
        forward, backward, count=total_weight,
        check=check_probabilities, check_first=check_distribution, mend=_MEND,
    )  # fmt: skip
