"""Hinge loss of several labels: the score of each label should be above those of all other classes.

Derivation. With C classes, for each label c and each class j that is not a label,

    z_(cj) = 1 - x_c + x_j
    l = 1 / C sum_c sum_j max(0, z_(cj))
    s_(cj) = {(1, if z_(cj) > 0), (0, otherwise):}    also 0 where c is not a label or j is one
    dx_j = (sum_c s_(cj) - sum_i s_(ji)) / C dl

Cache: max(0, z_(cj)), with the labels in their order as rows and the classes as columns, and the
labels.
"""

from __future__ import annotations

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.checks import check_classes_last, check_shape, class_indices
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, per_example


def forward(
    x: Float[Tensor, "*n C"], target: Int[Tensor, "*n C"]
) -> tuple[Float[Tensor, "*n"], Tensors]:
    """Compute l = 1 / C sum_c sum_j max(0, 1 - x_c + x_j), over labels c and other classes j."""
    n = check_classes_last("multi_label_margin", x)
    check_shape("multi_label_margin", target, tuple(x.shape), x)
    # From the first -1 on, no entry is a label.
    labelled = ((target < 0).cumsum(-1) == 0).long()
    index = class_indices("multi_label_margin", target * labelled - (1 - labelled), -1, n)
    index = index.clamp(min=0)
    count = torch.zeros_like(x).scatter_add(-1, index, labelled.to(x.dtype))
    z = 1 - x.gather(-1, index).unsqueeze(-1) + x.unsqueeze(-2)
    pairs = labelled.unsqueeze(-1) * (count == 0).unsqueeze(-2)
    hinge = z.clamp(min=0) * pairs
    return hinge.sum((-2, -1)) / n, (hinge, index)


def backward(cache: Tensors, dl: Cotangent) -> Float[Tensor, "*n C"]:
    """Compute dx_j = (sum_c s_cj - sum_i s_ji) / C dl."""
    hinge, index = cache
    s = (hinge > 0).to(hinge.dtype)
    dx = s.sum(-2).scatter_add(-1, index, -s.sum(-1)) / s.shape[-1]
    return dx * per_example(dl, -1)


@constructor
def multi_label_margin(*, reduction: Reduction = "mean") -> Loss:
    """Make the hinge loss of several labels: each one's score should be above all other classes'.

    l = 1 / C sum over labels c, and over classes j that are no label, of max(0, 1 - x_c + x_j). x
    has shape (N, C) or (C), and the target are class indices of its shape: an example's labels come
    first, and -1 ends them.

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.multi_label_margin(reduction="sum")
        >>> x, labels = torch.tensor([0.5, 1.0, 0.0, 3.0]), torch.tensor([3, 0, -1, 1])
        >>> value, cache = loss.forward(x, labels)
        >>> value, loss.backward(cache)
        (tensor(0.5000), tensor([-0.5000,  0.2500,  0.2500,  0.0000]))
    """
    return make_loss(forward, backward)
