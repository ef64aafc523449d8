"""The confusion matrix of a classifier."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn.plots._figure import Axes, new_axes

# With more classes, the counts would overlap at the figure's default size.
_MOST_WRITTEN = 15
Text: TypeAlias = dict[str, Any]  # Any: matplotlib's options of a text


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
        turned: Text = {"rotation": 45, "ha": "right"} if slanted else {}
        axes.set_xticks(ticks, names, rotation_mode="anchor", **turned)
        axes.set_yticks(ticks, names)
    if len(counts) <= _MOST_WRITTEN:
        size = "small" if len(counts) > 8 else "medium"
        for (row, column), count in np.ndenumerate(counts.numpy()):
            colour = "white" if shares[row, column] > 0.4 else "black"
            look: Text = {"ha": "center", "va": "center", "fontsize": size, "color": colour}
            axes.text(column, row, str(count), **look)
    axes.set(xlabel="predicted class", ylabel="class")
    axes.set_title(f"Confusion matrix, {int(counts.sum())} examples")
    axes.figure.colorbar(image, ax=axes, label="share of the class")
    return axes


def _counts(
    prediction: Tensor, target: Tensor, labels: Sequence[str] | None
) -> Int[Tensor, "classes classes"]:
    if prediction.ndim == 2 and prediction.shape[1] > 1:
        predicted, classes = prediction.argmax(1).cpu(), prediction.shape[1]
    elif prediction.ndim == 1 and not prediction.is_floating_point():
        predicted, classes = prediction.long().cpu(), 0
    else:
        given = f"{prediction.dtype} {tuple(prediction.shape)}"
        raise _unfit("prediction of shape (N, C) or class indices (N,)", given)
    if target.shape not in ((len(predicted),), (len(predicted), 1)) or target.numel() == 0:
        raise _unfit(f"target of shape {(max(len(predicted), 1),)}", tuple(target.shape))
    true = target.flatten().long().cpu()
    smallest, largest = (int(end) for end in torch.cat((true, predicted)).aminmax())
    classes = classes or (largest + 1 if labels is None else len(labels))
    if labels is not None and len(labels) != classes:
        raise _unfit(f"{classes} labels", len(labels))
    if smallest < 0 or largest >= classes:
        raise _unfit(f"classes from 0 to {classes - 1}", f"{smallest} to {largest}")
    return torch.bincount(true * classes + predicted, minlength=classes**2).view(classes, classes)


def _unfit(expected: str, given: object) -> ValueError:
    return ValueError(f"confusion_matrix: expected {expected}, got {given}")
