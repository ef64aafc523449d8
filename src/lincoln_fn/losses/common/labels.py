"""Class indices as labels: one per example, with class weights and a label to ignore.

The prediction has the classes on axis `dim`, such as 1: (N, C) or (N, C, ...). Labels have its
shape without that axis, (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too. An example
whose label is `ignore_index` has the value 0 and the gradient 0, and is left out of means. A mean
over only such examples is an error.
"""

from __future__ import annotations

from typing import Any

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lincoln_fn.core import LayerError, record, static
from lincoln_fn.losses.common.checks import any_true, check_between, check_integers
from lincoln_fn.losses.common.weights import Weights


@record
class Labels:
    """Each example's label c, its weight w_c, and whether it is ignored, with 1 on axis dim.

    An ignored example has the weight 0, and the label 0 instead of its own.
    """

    index: Int[Tensor, "N 1 *s"]
    w: Float[Tensor, "N 1 *s"]
    ignored: Bool[Tensor, "N 1 *s"]
    dim: int = static()
    ignore_index: int = static()

    def total_weight(self, name: str) -> Tensor:
        """Compute sum w_c, which a mean divides by."""
        # A sum in float16 overflows at 65504 examples.
        n = self.w.sum(dtype=torch.promote_types(self.w.dtype, torch.float32))
        if not any_true(n):
            got = f"ignore_index={self.ignore_index} or labels of weight 0"
            raise LayerError(name, f"expected labels to average over, got only {got}")
        return n


def read_labels(
    name: str,
    prediction: Float[Tensor, "N C *s"],
    target: Int[Tensor, " N *s"],
    weight: Weights | None,
    ignore_index: int,
    dim: int,
) -> Labels:
    """Read class indices, of the prediction's shape without the classes."""
    index = label_column(name, prediction, target, dim)
    classes = prediction.shape[dim]
    ignored = index == ignore_index
    index = torch.where(ignored, 0, index)
    check_between(name, "labels", index, 0, classes - 1)
    if weight is None:
        w = ignored.logical_not().to(prediction.dtype)
    else:
        w = torch.where(ignored, 0, weight.of_classes(classes, prediction)[index])
    return Labels(index, w, ignored, dim, ignore_index)


def label_column(
    name: str, prediction: Float[Tensor, "N C *s"], target: Int[Tensor, " N *s"], dim: int
) -> Int[Tensor, "N 1 *s"]:
    """Check the labels' shape and dtype, and give them axis dim."""
    shape = tuple(prediction.shape)
    check_classes(name, prediction, dim)
    dim %= len(shape)
    column = (*shape[:dim], 1, *shape[dim + 1 :])
    without = shape[:dim] + shape[dim + 1 :]
    if target.shape != without and not (len(shape) == 2 and dim == 1 and target.shape == column):
        mend = f"; take its argmax({dim})" if target.shape == shape else ""
        if target.shape == shape[:-1]:
            mend = "; for classes on the last axis write dim=-1"
        wanted = f"{without} for prediction {shape}"
        got = f"{tuple(target.shape)}{mend}"
        raise LayerError(name, f"expected target of shape {wanted}, got {got}")
    check_integers(name, target)
    return target.long().reshape(column)


def check_classes(name: str, prediction: Tensor, dim: int) -> None:
    """Check that the prediction has axis dim, and another one."""
    shape = tuple(prediction.shape)
    if len(shape) < 2 or not -len(shape) <= dim < len(shape):
        wanted = "(N, C) or (N, C, ...)" if dim == 1 else f"(N, C) or larger, with an axis {dim}"
        raise LayerError(name, f"expected prediction of shape {wanted}, got {shape}")


def weighted_values(values: Tensor, labels: Labels) -> Float[Tensor, " N *s"]:
    """Compute w values, 0 where w is 0 even if the value is infinite or nan, without axis dim."""
    return torch.where(labels.w != 0, labels.w * values, 0).squeeze(labels.dim)


def total_weight(cache: tuple[Any, ...], *, name: str) -> Tensor:
    """Compute the sum of the weights of the labels, which come first in a cache."""
    labels: Labels = cache[0]
    return labels.total_weight(name)
