"""Weights of classes and elements; and class indices as labels, one of which may be to ignore.

The prediction has the classes on axis `dim`, such as 1: (N, C) or (N, C, ...). Labels have its
shape without that axis, (N,) or (N, ...); for (N, C) a column (N, 1) is accepted too. An example
whose label is `ignore_index` has the value 0 and the gradient 0, and is left out of means. A mean
over only such examples is an error.
"""

from __future__ import annotations

import math
from typing import Annotated, Final, TypeAlias

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from lincoln_fn.core import Cache, Range, record, static, unexpected
from lincoln_fn.losses.common.checks import all_within, any_true, check_between, check_integers


def _is_finite(weight: Tensor) -> bool:
    return weight.is_meta or bool(((weight >= 0) & (weight < math.inf)).all())


_OF_FLOATS: Final = Range("of a floating dtype", Tensor.is_floating_point)
_OF_ONE_AXIS: Final = Range("of 1 axis", lambda weight: weight.ndim == 1)
_FINITE: Final = Range("of finite numbers of at least 0", _is_finite)

ElementWeights: TypeAlias = Annotated[Tensor, _OF_FLOATS, _FINITE]
ClassWeights: TypeAlias = Annotated[Tensor, _OF_FLOATS, _OF_ONE_AXIS, _FINITE]


def of_classes(name: str, weight: Tensor, n: int, like: Tensor) -> Tensor:
    """Return the weights of n classes, in the dtype and on the device of like."""
    if weight.shape != (n,):
        raise unexpected(name, f"weight of shape ({n},)", weight.shape)
    return weight.to(like)


def of_elements(name: str, what: str, weight: Tensor, like: Tensor) -> Tensor:
    """Return the weights, which broadcast to like, in its dtype and on its device."""
    sizes = zip(reversed(weight.shape), reversed(like.shape), strict=False)
    if weight.ndim > like.ndim or any(n not in (1, of) for n, of in sizes):
        expected = f"{what} of a shape that broadcasts to {tuple(like.shape)}"
        raise unexpected(name, expected, weight.shape)
    return weight.to(like)


@record
class Labels:
    """Each example's label c, its weight w_c, and whether it is ignored, with 1 on axis dim."""

    index: Int[Tensor, "N 1 *s"]  # 0 of an ignored example
    w: Float[Tensor, "N 1 *s"] | None  # likewise; None where all are 1
    ignored: Bool[Tensor, "N 1 *s"] | None  # None where none is
    dim: int = static()
    ignore_index: int = static()

    def weights(self, like: Tensor) -> Float[Tensor, "N 1 *s"]:
        """Return w, or ones in the dtype of like."""
        return like.new_ones(()).expand(self.index.shape) if self.w is None else self.w


def read_labels(
    name: str,
    prediction: Float[Tensor, "N C *s"],
    target: Int[Tensor, " N *s"],
    weight: Tensor | None,
    ignore_index: int,
    dim: int,
) -> Labels:
    """Read class indices, of the prediction's shape without the classes."""
    index = label_column(name, prediction, target, dim)
    classes = prediction.shape[dim]
    ignores = weight is None and 0 <= ignore_index < classes and any_true(index == ignore_index)
    if weight is None and not ignores and all_within(index, 0, classes - 1):
        return Labels(index, None, None, dim, ignore_index)
    ignored = index == ignore_index
    index = torch.where(ignored, 0, index)
    check_between(name, "labels", index, 0, classes - 1)
    if weight is None:
        w = ignored.logical_not().to(prediction.dtype)
    else:
        w = torch.where(ignored, 0, of_classes(name, weight, classes, prediction)[index])
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
        wanted = f"target of shape {without} for prediction {shape}"
        raise unexpected(name, wanted, f"{tuple(target.shape)}{mend}")
    check_integers(name, target)
    return target.long().reshape(column)


def check_classes(name: str, prediction: Tensor, dim: int) -> None:
    """Check that the prediction has axis dim, and another one."""
    shape = tuple(prediction.shape)
    if len(shape) < 2 or not -len(shape) <= dim < len(shape):
        wanted = "(N, C) or (N, C, ...)" if dim == 1 else f"(N, C) or larger, with an axis {dim}"
        raise unexpected(name, f"prediction of shape {wanted}", shape)


def weighted_values(values: Tensor, labels: Labels) -> Float[Tensor, " N *s"]:
    """Compute w values, 0 where w is 0 even if the value is infinite or nan, without axis dim."""
    if labels.w is None:
        return values.squeeze(labels.dim)
    return torch.where(labels.w != 0, labels.w * values, 0).squeeze(labels.dim)


def total_weight(cache: Cache, *, name: str) -> Tensor | None:
    """Compute sum w_c of the labels, which come first in a cache; None for the number of values."""
    labels: Labels = cache[0]
    if labels.w is None:
        return None
    # A sum in float16 overflows at 65504 examples.
    n = labels.w.sum(dtype=torch.promote_types(labels.w.dtype, torch.float32))
    if not any_true(n):
        got = f"only ignore_index={labels.ignore_index} or labels of weight 0"
        raise unexpected(name, "labels to average over", got)
    return n
