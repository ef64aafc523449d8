"""The picture of a learning curve, which the examples save for `--plot FILE.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lincoln_fn as lf
from lincoln_fn import plots


def save_learning_curve(
    path: Path,
    title: str,
    losses: Mapping[str, Sequence[lf.FitRecord]],
    accuracies: Mapping[str, Sequence[lf.FitRecord]],
    steps_per_epoch: Mapping[str, int],
) -> None:
    """Save loss and accuracy against epochs.

    Args:
        path: the file.
        title: what was trained.
        losses: histories, by what the loss is of.
        accuracies: the same histories in the same order, by what the accuracy was measured on.
        steps_per_epoch: of each history, by its name in `losses`.
    """
    # A figure of its own, where pyplot would keep one, is drawn by Agg and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(title)
    loss, accuracy = figure.subplots(1, 2)
    plots.learning_curve(losses, axes=loss)
    plots.learning_curve(accuracies, "metric", axes=accuracy)
    for axes in (loss, accuracy):
        for line, steps in zip(axes.lines, steps_per_epoch.values(), strict=True):
            line.set_xdata([step / steps for step in line.get_xdata()])
        axes.relim()
        axes.autoscale_view()
        axes.set_xlabel("epoch")
    loss.set(
        title="Training loss", ylabel="loss, summed over a batch of training examples", yscale="log"
    )
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter("{x:g}")
    accuracy.set(title="Accuracy", ylabel="share of the examples classified correctly")
    figure.savefig(path, dpi=120, format="png")
