"""Metrics: functions (prediction, target) -> the mean over the examples, as a number.

`evaluate` weighs each batch by its number of examples, so that a last, smaller batch counts for
what it is. Any function of that kind is a metric.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from torch import Tensor

from lincoln_fn.shapes import LayerError

Metric: TypeAlias = Callable[[Tensor, Tensor], float]


def accuracy(prediction: Tensor, target: Tensor) -> float:
    """Compute the share of examples whose highest-ranked class is the label.

    Args:
        prediction: (N, C); logits, probabilities and log-probabilities rank alike.
        target: (N,) or (N, 1) class indices.

    Returns:
        A share from 0 to 1.

    Raises:
        LayerError: if the shapes do not fit.

    Example:
        >>> import torch
        >>> accuracy(torch.tensor([[0.1, 0.9], [0.8, 0.2]]), torch.tensor([1, 1]))
        0.5
    """
    labels = _labels("accuracy", prediction, target, k=1)
    return (prediction.argmax(1) == labels).double().mean().item()


def top_k_error(k: int = 5) -> Metric:
    """Make the share of examples whose label is not among the k highest-ranked classes.

    Args:
        k: at least 1, and at most the number of classes.

    Returns:
        The metric, on (N, C) predictions and (N,) or (N, 1) class indices.

    Raises:
        ValueError: if k is below 1.
        LayerError: from the metric, if the shapes do not fit or there are fewer than k classes.

    Example:
        >>> import torch
        >>> top_k_error(2)(torch.tensor([[0.1, 0.3, 0.6], [0.5, 0.4, 0.1]]), torch.tensor([1, 2]))
        0.5
    """
    if k < 1:
        raise ValueError(f"top_k_error: expected k of at least 1, got {k}")

    def error(prediction: Tensor, target: Tensor) -> float:
        labels = _labels("top_k_error", prediction, target, k)
        hits = prediction.topk(k, dim=1).indices == labels.unsqueeze(1)
        return 1 - hits.any(1).double().mean().item()

    return error


def binary_accuracy(prediction: Tensor, target: Tensor, *, threshold: float = 0.5) -> float:
    """Compute the share of examples on the right side of a threshold.

    Args:
        prediction: (N,) or (N, 1), high for class 1.
        target: (N,) or (N, 1) labels, 0 or 1.
        threshold: class 1 is predicted above it: 0.5 for probabilities, `math.log(0.5)` for
            log-probabilities, 0 for logits. Bind it with `functools.partial`.

    Returns:
        A share from 0 to 1.

    Raises:
        LayerError: if there is not one prediction a label.

    Example:
        >>> import torch
        >>> binary_accuracy(torch.tensor([[0.9], [0.4]]), torch.tensor([1, 1]))
        0.5
    """
    shape = tuple(prediction.shape)
    if prediction.numel() != shape[0] or target.numel() != shape[0]:
        problem = f"expected (N,) or (N, 1) of both, got prediction {shape}"
        raise LayerError("binary_accuracy", f"{problem} and target {tuple(target.shape)}")
    return ((prediction.flatten() > threshold) == (target.flatten() == 1)).double().mean().item()


def _labels(name: str, prediction: Tensor, target: Tensor, k: int) -> Tensor:
    shape = tuple(prediction.shape)
    if len(shape) != 2 or shape[1] < k:
        raise LayerError(name, f"expected prediction of shape (N, C) with C >= {k}, got {shape}")
    if target.shape not in ((shape[0],), (shape[0], 1)):
        problem = f"expected target of shape {(shape[0],)} for prediction {shape}"
        raise LayerError(name, f"{problem}, got {tuple(target.shape)}")
    return target.flatten()
