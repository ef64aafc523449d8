"""Metrics: functions (prediction, target) -> the mean over the examples, as a number.

`evaluate` weights each batch by its number of examples, so a smaller last batch counts less. Any
function of this kind is a metric. What is no mean, such as F1, is `Pooled`: `evaluate` keeps some
numbers of each batch, and computes the metric of all at the end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Annotated, Literal, TypeAlias

import attrs
import torch
from torch import Tensor

from lincoln_fn.core import BY_HAND, PositiveInt, checked, unexpected, wrong_kind
from lincoln_fn.losses.internal import check_between, label_column, right_values

Metric: TypeAlias = Annotated[Callable[[Tensor, Tensor], float], BY_HAND]
Metrics: TypeAlias = Annotated[Mapping[str, Metric], BY_HAND]


# How the scores of the classes become one: their mean, that of all counts, or by their examples.
Average: TypeAlias = Literal["macro", "micro", "weighted"]


@attrs.frozen
class Pooled:
    """A metric of all examples together, which is no mean over batches.

    Args:
        of_batch: (prediction, target) -> rows, a tensor: what is kept of a batch.
        of_rows: (the rows of all batches) -> the metric.

    Example:
        >>> largest = Pooled(lambda p, t: (p - t).abs(), lambda rows: rows.max().item())
        >>> largest(torch.tensor([1.0, 5.0]), torch.tensor([1.0, 2.0]))
        3.0
    """

    of_batch: Callable[[Tensor, Tensor], Tensor]
    of_rows: Callable[[Tensor], float]

    def __call__(self, prediction: Tensor, target: Tensor) -> float:
        """Compute the metric of one batch."""
        return self.of_rows(self.of_batch(prediction, target))


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
    scores, is_one = _binary("binary_accuracy", prediction, target, "see accuracy")
    is_right = ((scores > threshold) == is_one) & ~scores.isnan()
    return is_right.double().mean().item()


@checked
def f1(average: Average = "macro") -> Metric:
    """Make the metric F1, of each class the harmonic mean of precision and recall.

    It is 2 n_both / (n_predicted + n_label), with the numbers of examples for which the class is
    predicted, the label, or both. A class that is neither does not count.

    Args:
        average: "macro" is the mean over the classes, "micro" the F1 of their sums, and "weighted"
            a mean by the number of labels.

    Returns:
        The metric, on (N, C) or (N, C, ...) predictions, of which the largest is predicted, and
        class indices (N,) or (N, ...).

    Example:
        >>> f1()(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]), torch.tensor([1, 1, 1]))
        0.4
    """
    return Pooled(partial(_counts, "f1"), partial(_of_counts, average, 2))


@checked
def iou(average: Average = "macro") -> Metric:
    """Make the metric intersection over union, the Jaccard index, of each class.

    It is n_both / n_any, with the numbers of pixels, or examples, for which the class is predicted
    and the label, or one of both. The arguments are those of `f1`.

    Example:
        >>> iou()(torch.tensor([[0.1, 0.9], [0.8, 0.2], [0.4, 0.6]]), torch.tensor([1, 1, 1]))
        0.3333333333333333
    """
    return Pooled(partial(_counts, "iou"), partial(_of_counts, average, 1))


def _counts(name: str, prediction: Tensor, target: Tensor) -> Tensor:
    """Count of each class where it is predicted and the label, predicted, and the label."""
    _check_tensors(name, prediction, target)
    labels = label_column(name, prediction, target, dim=1).flatten()
    check_between(name, "labels", labels, 0, prediction.shape[1] - 1)
    best, index = prediction.max(1)
    index = index.flatten().masked_fill(best.isnan().flatten(), prediction.shape[1])  # no class
    groups = labels[index == labels], index, labels
    count = partial(torch.bincount, minlength=prediction.shape[1] + 1)
    return torch.stack([count(group)[:-1] for group in groups], 1).unsqueeze(0)


def _of_counts(average: Average, times: int, rows: Tensor) -> float:
    """Compute F1, where the examples of both count twice, or IoU, where they count once."""
    counts = rows.sum(0).double()
    counts = counts.sum(0, keepdim=True) if average == "micro" else counts[counts.sum(1) > 0]
    both, predicted, label = counts.unbind(1)
    scores = times * both / (predicted + label + (times - 2) * both)
    return float((scores * label / label.mean() if average == "weighted" else scores).mean())


def _auc_of(rows: Tensor) -> float:
    (scores, is_one), one = rows.unbind(1), rows[:, 1].sum()
    _, place, counts = torch.unique(scores, return_inverse=True, return_counts=True)
    ranks = (counts.cumsum(0) - (counts - 1) / 2.0)[place]
    wins = (ranks * is_one).sum() - one * (one + 1) / 2
    pairs = one * (len(rows) - one)
    return float(wins / pairs if pairs and not scores.isnan().any() else torch.nan)


def _binary_rows(prediction: Tensor, target: Tensor) -> Tensor:
    scores, is_one = _binary("auc", prediction, target)
    return torch.stack((scores.double(), is_one.double()), 1)


@checked
def auc() -> Metric:
    """Make the metric: the area under the ROC curve of two classes.

    It is the share of pairs of an example of class 1 and one of class 0 in which the first has the
    higher score; equal scores count as a half.

    Returns:
        The metric, on scores (N,) or (N, 1) and labels 0 or 1; nan where one class is missing.

    Example:
        >>> auc()(torch.tensor([0.9, 0.4, 0.3, 0.4]), torch.tensor([1, 1, 0, 0]))
        0.875
    """
    return Pooled(_binary_rows, _auc_of)


@checked
def perplexity(dim: int = -1, ignore_index: int = -100) -> Metric:
    """Make the metric: e to the mean of -log p of the labels, such as of all tokens of a text.

    Args:
        dim: the axis of the classes.
        ignore_index: a label that does not count.

    Returns:
        The metric, on logits or log-probabilities and class indices of their shape without dim.

    Example:
        >>> perplexity()(torch.zeros(1, 3, 4), torch.tensor([[0, 3, -100]]))
        4.0
    """
    return Pooled(partial(_surprise, dim=dim, ignored=ignore_index), _perplexity_of)


def _surprise(prediction: Tensor, target: Tensor, *, dim: int, ignored: int) -> Tensor:
    """Compute the sum of -log p, and the number of labels."""
    _check_tensors("perplexity", prediction, target)
    labels, counts = label_column("perplexity", prediction, target, dim), target != ignored
    labels = torch.where(labels == ignored, 0, labels)
    check_between("perplexity", "labels", labels, 0, prediction.shape[dim] - 1)
    log_p = prediction.double().log_softmax(dim).gather(dim, labels).squeeze(dim)
    count = counts.view_as(log_p)
    return torch.stack((-log_p[count].sum(), count.sum().double())).unsqueeze(0)


def _perplexity_of(rows: Tensor) -> float:
    total, count = rows.sum(0)
    return float((total / count).exp())


def _binary(
    name: str, prediction: Tensor, target: Tensor, several: str = ""
) -> tuple[Tensor, Tensor]:
    """Return the scores, and whether the labels are 1; `several` mends scores of classes."""
    _check_tensors(name, prediction, target)
    shape, of_target = tuple(prediction.shape), tuple(target.shape)
    columns = ((len(prediction),), (len(prediction), 1)) if shape else ()
    if shape not in columns or of_target not in columns:
        mend = several if len(shape) == 2 and shape[1] > 1 else ""
        got = f"prediction {shape} and target {of_target}"
        raise unexpected(name, "(N,) or (N, 1) of both", got, mend)
    scores, labels = prediction.flatten(), target.flatten()
    right_values(name, "labels 0 or 1", labels, (labels == 0) | (labels == 1))
    return scores, labels == 1


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
    for what, given in (("prediction", prediction), ("target", target)):
        if not isinstance(given, Tensor):
            raise wrong_kind(name, what, given, "tensor")
        if given.numel() == 0:
            shape = tuple(given.shape)
            raise unexpected(name, "at least one example", f"{what} of shape {shape}")
