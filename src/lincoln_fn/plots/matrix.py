"""The confusion matrix of a classifier."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn.plots._figure import Axes, new_axes

# With more classes, the counts would overlap at the figure's default size.
_MOST_WRITTEN = 15


def confusion_matrix(
    prediction: Tensor,
    target: Tensor,
    *,
    labels: Sequence[str] | None = None,
    axes: Axes | None = None,
) -> Axes:
    """Draw how many examples of each class are predicted as which class.

    A row is a class of the target. Colours show shares of a row, so that rare classes count as much
    as common ones. Their scale is a square root, so that rare mistakes are visible. The numbers are
    counts; large matrices have none.

    Args:
        prediction: (N, C) scores, of which the highest counts, or (N,) class indices. If there is
            one score per example, give the indices: `(score > threshold).long()`.
        target: (N,) or (N, 1) class indices.
        labels: the names of the classes; None shows their indices.

    Returns:
        The axes. The image's array holds the shares.

    Raises:
        ValueError: if shapes do not fit, or a class has no index or no name.

    Example:
        >>> axes = confusion_matrix(
        ...     torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1])
        ... )
        >>> axes.images[0].get_array().tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    counts = _counts(prediction, target, labels)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes = new_axes() if axes is None else axes
    from matplotlib.colors import PowerNorm

    image = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    ticks = range(len(counts))
    if labels is not None or len(counts) <= _MOST_WRITTEN:
        names = [str(i) for i in ticks] if labels is None else list(labels)
        slanted = max(map(len, names)) > 3 and len(names) > 3
        axes.set_xticks(
            ticks,
            names,
            rotation=45 if slanted else 0,
            ha="right" if slanted else "center",
            rotation_mode="anchor",
        )
        axes.set_yticks(ticks, names)
    if len(counts) <= _MOST_WRITTEN:
        for row, column in torch.cartesian_prod(*[torch.arange(len(counts))] * 2).tolist():
            axes.text(
                column,
                row,
                f"{int(counts[row, column])}",
                ha="center",
                va="center",
                fontsize="small" if len(counts) > 8 else "medium",
                color="white" if shares[row, column] > 0.4 else "black",
            )
    axes.set(xlabel="predicted class", ylabel="class")
    axes.set_title(f"Confusion matrix, {int(counts.sum())} examples")
    axes.figure.colorbar(image, ax=axes, label="share of the class")
    return axes


def _counts(
    prediction: Tensor, target: Tensor, labels: Sequence[str] | None
) -> Int[Tensor, "classes classes"]:
    name = "confusion_matrix"
    if prediction.ndim == 2 and prediction.shape[1] > 1:
        predicted, classes = prediction.argmax(1).cpu(), prediction.shape[1]
    elif prediction.ndim == 1 and not prediction.is_floating_point():
        predicted, classes = prediction.long().cpu(), 0
    else:
        wanted = "expected prediction of shape (N, C) or class indices (N,)"
        given = f"{prediction.dtype} {tuple(prediction.shape)}"
        raise ValueError(f"{name}: {wanted}, got {given}")
    if target.shape not in ((len(predicted),), (len(predicted), 1)) or target.numel() == 0:
        wanted = f"expected target of shape {(max(len(predicted), 1),)}"
        raise ValueError(f"{name}: {wanted}, got {tuple(target.shape)}")
    true = target.flatten().long().cpu()
    largest = int(torch.maximum(true, predicted).max())
    if labels is not None:
        classes = classes or len(labels)
    classes = classes or largest + 1
    if labels is not None and len(labels) != classes:
        raise ValueError(f"{name}: expected {classes} labels, got {len(labels)}")
    smallest = int(torch.minimum(true, predicted).min())
    if smallest < 0 or largest >= classes:
        given = f"{smallest} to {largest}"
        raise ValueError(f"{name}: expected classes from 0 to {classes - 1}, got {given}")
    return torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, classes)
