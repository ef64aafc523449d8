"""Kullback-Leibler divergence of the target's probabilities t from those predicted, elementwise.

Derivation. The prediction is z, the logarithm of a probability. Only the last term depends on it:

    l = t log t - t z
    (dl)/(dz) = -t
    dz = -t dl

l is 0 where t = 0, the limit of t log t.

Cache: t.
"""

from __future__ import annotations

import math
from typing import Literal, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import constructor, unexpected
from lincoln_fn.losses.common.checks import check_log_probabilities, outside, same_shape
from lincoln_fn.losses.internal import Cotangent, Elements, Loss, make_loss, number_of_values

KLReduction: TypeAlias = Literal["mean", "batchmean", "sum", "none"]


def forward(z: Elements, target: Elements, *, log_target: bool) -> tuple[Elements, Elements]:
    """Compute l = t log t - t z, from t or from log t."""
    if log_target:
        t = target.exp()
        return t * (target - z), t
    return torch.xlogy(target, target) - target * z, target


def backward(t: Elements, dl: Cotangent) -> Elements:
    """Compute dz = -t dl."""
    return -t * dl


def number_of_rows(t: Elements) -> Tensor:
    """Count the examples, on the first axis."""
    # float16 ends at 65504 examples.
    return t.new_tensor(t.shape[:1].numel(), dtype=torch.promote_types(t.dtype, torch.float32))


def _check(name: str, mend: str, z: Tensor, target: Tensor, *, log_target: bool) -> None:
    check_log_probabilities(name, mend, z, target)
    wrong = None if log_target else outside(target, 0, math.inf)
    if wrong is not None and wrong < 0:  # and not nan
        mend = "with log_target=True it is of their logarithms"
        raise unexpected(name, "target of probabilities", f"{wrong:g}", mend)


@constructor
def kl_div(*, log_target: bool = False, reduction: KLReduction = "mean") -> Loss:
    """Make the Kullback-Leibler divergence of t from the log-probabilities z, element by element.

    l = t (log t - z), which is 0 where t = 0. z has any shape, and the target the same.

    Args:
        log_target: whether the target is log t instead of t.
        reduction: "mean" over the elements, "batchmean" over the rows (the divergence itself),
            "sum" of the elements, or "none".

    Example:
        >>> loss = lf.losses.kl_div(reduction="batchmean")
        >>> value, cache = loss.forward(torch.tensor([[0.5, 0.5]]).log(), torch.tensor([[1.0, 0]]))
        >>> value, loss.backward(cache)
        (tensor(0.6931), tensor([[-1., -0.]]))
    """
    count = number_of_rows if reduction == "batchmean" else number_of_values
    return make_loss(
        forward, backward, count=count, reads=same_shape,
        check=_check, mend="end the net with log_softmax()",
    )  # fmt: skip
