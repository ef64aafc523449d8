"""Losses of scores and labels, of a linear classifier, and of two arrays."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

from lincoln_fn.testing.references.known import Candidates, Known, apply

# Of scores and labels.
Loss: TypeAlias = Callable[[Tensor, Tensor], Tensor]


def softmax_loss(x: Tensor, y: Tensor) -> Tensor:
    """Average the cross-entropy of scores and labels over the examples."""
    p = torch.log_softmax(x, 1)
    return -p[torch.arange(len(x)), y].mean()


def svm_loss(x: Tensor, y: Tensor, delta: float = 1.0) -> Tensor:
    """Average the multi-class hinge loss over the examples."""
    rows = torch.arange(len(x))
    margins = torch.relu(x - x[rows, y].unsqueeze(1) + delta)
    others = torch.ones_like(x)
    others[rows, y] = 0
    return (margins * others).sum(1).mean()


def temporal_softmax_loss(x: Tensor, y: Tensor, mask: Tensor) -> Tensor:
    """Add up the cross-entropy over the steps that count, for each example of the batch."""
    p = torch.log_softmax(x.flatten(0, 1), 1)
    chosen = p[torch.arange(len(p)), y.flatten()]
    return -(chosen * mask.flatten()).sum() / len(x)


def linear_softmax_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its cross-entropy."""
    return softmax_loss(x @ w, y) + factor * reg * (w * w).sum()


def linear_svm_loss(w: Tensor, x: Tensor, y: Tensor, reg: float, factor: float = 1.0) -> Tensor:
    """Add the squares of a classifier's weights to its hinge loss."""
    return svm_loss(x @ w, y) + factor * reg * (w * w).sum()


def find_loss(known: Known) -> Candidates:
    """List losses; labels that are not among the arguments are found by the gradients."""
    (y,) = known.y
    if y.numel() != 1:
        return
    yield from _find_of_two(known)
    yield from _find_of_classifier(known)
    yield from _find_of_steps(known)
    if len(known.arrays) == 1 and known.arrays[0].ndim == 2:
        x = known.arrays[0]
        for labels in _list_labels(known, x):
            for of in (softmax_loss, svm_loss):
                for scale in (1.0, float(len(x))):
                    yield apply(_scaled, 0, of=of, labels=labels, scale=scale, shape=y.shape)


def _scaled(x: Tensor, of: Loss, labels: Tensor, scale: float, shape: torch.Size) -> Tensor:
    value = of(x, labels)
    return (value if scale == 1 else value * scale).reshape(shape)


def _find_of_two(known: Known) -> Candidates:
    if len(known.arrays) == 2 and known.arrays[0].shape == known.arrays[1].shape:
        shape = known.arrays[0].shape
        for scale in (1 / shape.numel(), 0.5 / shape.numel(), 1.0, 0.5, 1 / shape[:1].numel()):
            yield apply(_squared, 0, 1, scale=scale)


def _squared(a: Tensor, b: Tensor, scale: float) -> Tensor:
    return scale * ((a - b) ** 2).sum()


def _find_of_classifier(known: Known) -> Candidates:
    """List losses of a linear classifier's weights, with the weight decay that the output shows."""
    (y,) = known.y
    if len(known.arrays) != 1 or known.arrays[0].ndim != 2:
        return
    w = known.arrays[0]
    for x in (c for c in known.constants if c.is_floating_point() and c.ndim == 2):
        for labels in known.integers:
            if x.shape[1] != w.shape[0] or not _are_labels(labels, x.shape[:1], w.shape[1]):
                continue
            for of in (softmax_loss, svm_loss):
                squares = float((w * w).sum())
                more = float(y - of(x @ w, labels)) / squares if squares else 0.0
                # A round number fits exactly.
                reg = float(f"{more:.10g}") if abs(more) > 1e-12 else 0.0
                yield apply(_classify, 0, x=x, labels=labels, reg=reg, of=of, shape=y.shape)


def _are_labels(labels: Tensor, shape: torch.Size, classes: int) -> bool:
    """Return whether there is the number of a class for each example."""
    return labels.shape == shape and bool(((labels >= 0) & (labels < classes)).all())


def _classify(
    w: Tensor, x: Tensor, labels: Tensor, reg: float, of: Loss, shape: torch.Size
) -> Tensor:
    loss = of(x @ w, labels)
    return (loss + reg * (w * w).sum() if reg else loss).reshape(shape)


def _find_of_steps(known: Known) -> Candidates:
    """List losses of scores for each step of sequences."""
    if len(known.arrays) != 1 or known.arrays[0].ndim != 3:
        return
    shape = known.arrays[0].shape[:2]
    for labels in (c for c in known.integers if c.shape == shape):
        for mask in (c for c in known.constants if c.shape == shape and c is not labels):
            yield apply(temporal_softmax_loss, 0, y=labels, mask=mask)


def _list_labels(known: Known, x: Tensor) -> list[Tensor]:
    given = [i for i in known.integers if _are_labels(i, x.shape[:1], x.shape[1])]
    if given:
        return given
    found = known.gradients()
    return [found[0].argmin(1)] if found else []
