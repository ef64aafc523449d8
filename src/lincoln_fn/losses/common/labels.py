"""Class indices as labels: one per example, with class weights and a label to ignore.

The prediction has the classes on axis 1, (N, C) or (N, C, ...). Labels have its shape without that
axis, (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too. An example whose label is
`ignore_index` has the value 0 and the gradient 0, and is left out of means. A mean over only such
examples is an error.
"""

from __future__ import annotations

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lincoln_fn.core.record import record
from lincoln_fn.errors.errors import LayerError
from lincoln_fn.losses.common.targets import any_true, check_between, check_integers
from lincoln_fn.losses.common.weights import Weights


@record
class Labels:
    """Each example's label c, its weight w_c, and whether it is ignored, with 1 on axis 1.

    An ignored example has the weight 0, and the label 0 instead of its own.
    """

    index: Int[Tensor, "N 1 *s"]
    w: Float[Tensor, "N 1 *s"]
    ignored: Bool[Tensor, "N 1 *s"]


def read_labels(
    name: str,
    prediction: Float[Tensor, "N C *s"],
    target: Int[Tensor, " N *s"],
    weight: Weights | None,
    ignore_index: int,
) -> Labels:
    """Read class indices, of the prediction's shape without the classes."""
    index = label_column(name, prediction, target)
    classes = prediction.shape[1]
    ignored = index == ignore_index
    index = torch.where(ignored, 0, index)
    check_between(name, "labels", index, 0, classes - 1)
    if weight is None:
        w = ignored.logical_not().to(prediction.dtype)
    else:
        w = torch.where(ignored, 0, weight.of_classes(classes, prediction)[index])
    return Labels(index, w, ignored)


def label_column(
    name: str, prediction: Float[Tensor, "N C *s"], target: Int[Tensor, " N *s"]
) -> Int[Tensor, "N 1 *s"]:
    """Check the labels' shape and dtype, and give them axis 1."""
    shape = tuple(prediction.shape)
    if len(shape) < 2:
        raise LayerError(name, f"expected prediction of shape (N, C) or (N, C, ...), got {shape}")
    is_column = len(shape) == 2 and target.shape == (shape[0], 1)
    if target.shape != (shape[0], *shape[2:]) and not is_column:
        wanted = f"{(shape[0], *shape[2:])} for prediction {shape}"
        mend = "; take its argmax(1)" if target.shape == shape else ""
        got = f"{tuple(target.shape)}{mend}"
        raise LayerError(name, f"expected target of shape {wanted}, got {got}")
    check_integers(name, target)
    return target.long().reshape(shape[0], 1, *shape[2:])


def weighted(values: Float[Tensor, "N 1 *s"], w: Float[Tensor, "N 1 *s"]) -> Float[Tensor, " N *s"]:
    """Compute w values, 0 where w is 0 even if the value is infinite or nan, without axis 1."""
    return torch.where(w != 0, w * values, 0).squeeze(1)


def total_weight(name: str, ignore_index: int, w: Tensor) -> Tensor:
    """Compute sum w_c, which a mean divides by."""
    # A sum in float16 overflows at 65504 examples.
    n = w.sum(dtype=torch.promote_types(w.dtype, torch.float32))
    if not any_true(n):
        got = f"ignore_index={ignore_index} or labels of weight 0"
        raise LayerError(name, f"expected labels to average over, got only {got}")
    return n
