"""Multi-class hinge loss: the score of the label c should be above each other score by the margin.

Derivation. With C classes, w the classes' weights, 1 unless given, and z_j = margin - x_c + x_j,

    l = w_c / C sum_(j != c) max(0, z_j)^p
    s_j = {(p max(0, z_j)^(p - 1), if z_j > 0 and j != c), (0, otherwise):}
    dx_j = w_c / C s_j dl    for j != c
    dx_c = -w_c / C sum_j s_j dl

Cache: h_j = max(0, z_j), 0 at j = c; c; w_c / C.
"""

from __future__ import annotations

from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from lincoln_fn.core import constructor
from lincoln_fn.losses.common.checks import check_classes_last, check_shape, class_indices
from lincoln_fn.losses.common.labels import ClassWeights, of_classes
from lincoln_fn.losses.internal import Cotangent, Loss, Reduction, Tensors, make_loss, per_example

Scores = Float[Tensor, "*n C"]


def forward(
    x: Scores, target: Int[Tensor, "*n"], *, p: int, margin: float, weight: Tensor | None
) -> tuple[Float[Tensor, "*n"], Tensors]:
    """Compute l = w_c / C sum over j != c of max(0, margin - x_c + x_j)^p."""
    n = check_classes_last("multi_margin", x)
    check_shape("multi_margin", target, tuple(x.shape[:-1]), x)
    index = class_indices("multi_margin", target, 0, n).unsqueeze(-1)
    hinge = (margin - x.gather(-1, index) + x).clamp(min=0).scatter(-1, index, 0)
    scale = torch.full_like(hinge[..., :1], 1 / n)
    if weight is not None:
        scale = scale * of_classes("multi_margin", weight, n, x)[index]
    value = ((hinge**p).sum(-1, keepdim=True) * scale).squeeze(-1)
    return value, (hinge, index, scale)


def backward(cache: Tensors, dl: Cotangent, *, p: int) -> Scores:
    """Compute dx_j = w_c / C s_j dl for j != c, and dx_c = -w_c / C sum_j s_j dl."""
    hinge, index, scale = cache
    s = 2 * hinge if p == 2 else (hinge > 0).to(hinge.dtype)
    s = s.scatter(-1, index, -s.sum(-1, keepdim=True))
    return s * (scale * per_example(dl, -1))


@constructor
def multi_margin(
    *,
    p: Literal[1, 2] = 1,
    margin: float = 1.0,
    weight: ClassWeights | None = None,
    reduction: Reduction = "mean",
) -> Loss:
    """Make the multi-class hinge loss: the label's score should be above each other by the margin.

    l = w_c / C sum over j != c of max(0, margin - x_c + x_j)^p. x has shape (N, C) or (C), and the
    target are class indices (N) or ().

    Args:
        reduction: "mean" over the examples, "sum" of them, or "none".

    Example:
        >>> loss = lf.losses.multi_margin()
        >>> value, cache = loss.forward(torch.tensor([[0.5, 1.0]]), torch.tensor([0]))
        >>> value, loss.backward(cache)
        (tensor(0.7500), tensor([[-0.5000,  0.5000]]))
    """
    return make_loss(forward, backward)
