"""Metrics: functions (prediction, target) -> the mean over the examples, as a number.

`evaluate` weights each batch by its number of examples, so a smaller last batch counts less. Any
function of this kind is a metric.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, TypeAlias

from torch import Tensor

from lincoln_fn.core import BY_HAND, PositiveInt, checked, unexpected, wrong_kind
from lincoln_fn.losses.internal import check_between, label_column, right_values

Metric: TypeAlias = Annotated[Callable[[Tensor, Tensor], float], BY_HAND]
Metrics: TypeAlias = Annotated[Mapping[str, Metric], BY_HAND]


def accuracy(prediction: Tensor, target: Tensor) -> float:
    """Compute the share of examples whose highest-scored class is the label.

    An example whose prediction contains `nan` counts as wrong.

    Args:
        prediction: (N, C) with C of at least 2; logits, probabilities or log-probabilities, which
            have the same order. For one column, or one number per example, see `binary_accuracy`.
        target: (N,) or (N, 1) class indices.

    Example:
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        0.5
    """
    labels = _labels("accuracy", prediction, target, k=2)
    best, index = prediction.max(1)  # for a row with nan, best is nan
    return ((index == labels) & ~best.isnan()).double().mean().item()


def _top_k_error(prediction: Tensor, target: Tensor, *, k: int) -> float:
    labels = _labels("top_k_error", prediction, target, k)
    hits = prediction.topk(k, dim=1).indices == labels.unsqueeze(1)
    # topk takes nan for the highest, so that a net that has diverged would hit at random.
    is_right = hits.any(1) & ~prediction.isnan().any(1)
    return 1 - is_right.double().mean().item()


@checked
def top_k_error(k: PositiveInt = 5) -> Metric:
    """Make the metric: the share of examples whose label is not among the k highest-scored classes.

    Returns:
        The metric, on (N, C) predictions, with C at least k, and (N,) or (N, 1) class indices. An
        example whose prediction contains `nan` counts as wrong.

    Example:
        >>> top_k_error(2)(torch.tensor([[0.1, 0.3, 0.6], [0.5, 0.4, 0.1]]), torch.tensor([1, 2]))
        0.5
    """
    return partial(_top_k_error, k=k)


def binary_accuracy(prediction: Tensor, target: Tensor, *, threshold: float = 0.5) -> float:
    """Compute the share of examples whose prediction is on the right side of a threshold.

    Args:
        prediction: (N,) or (N, 1), high for class 1. `nan` counts as wrong, whatever the label.
        target: (N,) or (N, 1) labels, 0 or 1.
        threshold: class 1 is predicted above it: 0.5 for probabilities, `math.log(0.5)` for
            log-probabilities, 0 for logits. Bind it with `functools.partial`.

    Example:
        >>> binary_accuracy(torch.tensor([[0.9], [0.4]]), torch.tensor([1, 1]))
        0.5
    """
    _check_tensors("binary_accuracy", prediction, target)
    shape, of_target = tuple(prediction.shape), tuple(target.shape)
    columns = ((len(prediction),), (len(prediction), 1)) if shape else ()
    if shape not in columns or of_target not in columns:
        mend = "see accuracy" if len(shape) == 2 and shape[1] > 1 else ""
        got = f"prediction {shape} and target {of_target}"
        raise unexpected("binary_accuracy", "(N,) or (N, 1) of both", got, mend)
    scores, labels = prediction.flatten(), target.flatten()
    right_values("binary_accuracy", "labels 0 or 1", labels, (labels == 0) | (labels == 1))
    is_right = ((scores > threshold) == (labels == 1)) & ~scores.isnan()
    return is_right.double().mean().item()


def _labels(name: str, prediction: Tensor, target: Tensor, k: int) -> Tensor:
    _check_tensors(name, prediction, target)
    shape = tuple(prediction.shape)
    if len(shape) != 2 or shape[1] < k:
        one = len(shape) == 1 or shape[1:] == (1,)
        mend = "for two classes with one number an example see binary_accuracy" if one else ""
        raise unexpected(name, f"prediction of shape (N, C) with C >= {k}", shape, mend)
    labels = label_column(name, prediction, target, dim=1).flatten()
    check_between(name, "labels", labels, 0, shape[1] - 1)
    return labels


def _check_tensors(name: str, prediction: object, target: object) -> None:
    """Check that both are tensors of at least one example."""
    for what, given in (("prediction", prediction), ("target", target)):
        if not isinstance(given, Tensor):
            raise wrong_kind(name, what, given, "tensor")
        if given.numel() == 0:
            shape = tuple(given.shape)
            raise unexpected(name, "at least one example", f"{what} of shape {shape}")
