"""The results of training: learning curves, and the confusion matrix of a classifier."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

import numpy as np
import torch
from jaxtyping import Int
from torch import Tensor

from lincoln_fn.plots._figure import COLOURS, Axes, new_axes
from lincoln_fn.training import FitRecord, StepRecord

History: TypeAlias = Sequence[FitRecord] | Sequence[StepRecord]
# With more classes, the counts would overlap at the figure's default size.
_MOST_WRITTEN = 15


def learning_curve(
    history: History | Mapping[str, History],
    value: str = "loss",
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw the loss, the metric or a score of one or several runs against the step.

    Args:
        history: of a run, as `fit` returns it, or a list of `train`'s records; or several by name.
        value: "loss", "metric" for the metric on the validation data, or the name of a score:
            one that `streams.evaluated` adds, one of several metrics of `fit`, or a part of
            `losses.weighted`. Records without it are left out.

    Example:
        >>> history = [lf.FitRecord(10, 1, 0.9, None, 0.1), lf.FitRecord(20, 2, 0.5, None, 0.2)]
        >>> learning_curve(history).lines[0].get_ydata().tolist()
        [0.9, 0.5]
    """
    runs = history if isinstance(history, Mapping) else {"": history}
    if not runs:
        raise ValueError("learning_curve: expected at least one run, got none")
    points = {name: _points(name, run, value) for name, run in runs.items()}
    axes = axes or new_axes()
    for i, (name, (steps, values)) in enumerate(points.items()):
        # Several runs have different markers, too; many points would merge into a broad line.
        marker = "os^Dv"[i % 5] if len(steps) <= 60 else None
        style = ("-", "--", "-.", ":")[i // len(COLOURS) % 4]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            steps, values, style, color=colour, marker=marker, markersize=3.5, label=name or None
        )
    label = {"loss": "training loss", "metric": "validation metric"}.get(value, value)
    title = "Learning curve" if len(runs) == 1 else "Learning curves"
    axes.set(xlabel="step", ylabel=label, title=title)
    axes.grid(alpha=0.3)
    if any(runs):
        axes.legend()
    return axes


def _points(name: str, run: History, value: str) -> tuple[list[int], list[float]]:
    steps, values, seen = [], [], dict[str, None]()
    for record in run:
        numbers = _numbers(record)
        seen.update(dict.fromkeys(numbers))
        if value in numbers:
            steps.append(record.step)
            values.append(numbers[value])
    if not steps:
        of = f" of {name!r}" if name else ""
        got = f"records with {', '.join(seen)}" if seen else "none"
        raise ValueError(f"learning_curve: expected records with {value!r}, got {got}{of}")
    return steps, values


def _numbers(record: FitRecord | StepRecord) -> dict[str, float]:
    if isinstance(record, StepRecord):
        return {"loss": record.loss, **record.scores}
    metric = {} if record.metric is None else {"metric": record.metric}
    return {"loss": record.loss, **metric, **record.parts, **record.scores}


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

    Example:
        >>> axes = confusion_matrix(torch.tensor([0, 1, 1]), torch.tensor([0, 0, 1]))
        >>> axes.images[0].get_array().tolist()
        [[0.5, 0.5], [0.0, 1.0]]
    """
    counts = _counts(prediction, target, labels)
    shares = counts / counts.sum(1, keepdim=True).clamp(min=1)
    axes = axes or new_axes()
    from matplotlib.colors import PowerNorm

    image = axes.imshow(shares.numpy(), cmap="Blues", norm=PowerNorm(0.5, vmin=0, vmax=1))
    ticks = range(len(counts))
    if labels is not None or len(counts) <= _MOST_WRITTEN:
        names = [str(i) for i in ticks] if labels is None else list(labels)
        slanted = max(map(len, names)) > 3 and len(names) > 3
        rotation, side = (45, "right") if slanted else (0, "center")
        axes.set_xticks(ticks, names, rotation_mode="anchor", rotation=rotation, ha=side)
        axes.set_yticks(ticks, names)
    if len(counts) <= _MOST_WRITTEN:
        size = "small" if len(counts) > 8 else "medium"
        for (row, column), count in np.ndenumerate(counts.numpy()):
            colour = "white" if shares[row, column] > 0.4 else "black"
            axes.text(column, row, str(count), ha="center", va="center", size=size, color=colour)
    title = f"Confusion matrix, {int(counts.sum())} examples"
    axes.set(xlabel="predicted class", ylabel="class", title=title)
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
