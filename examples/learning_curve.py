"""The picture of a learning curve, which the examples save for `--plot FILE.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lincoln_fn as lf
from lincoln_fn import plots


def save_learning_curve(
    path: Path, title: str, histories: Mapping[str, Sequence[lf.FitRecord]]
) -> None:
    """Save loss and accuracy against step, a curve for each of the named histories."""
    # Imported here, so that the examples run without matplotlib. A figure of its own, where pyplot
    # would keep one, is drawn by Agg and needs no display.
    from matplotlib.figure import Figure

    figure = Figure(figsize=(10, 4.8), layout="constrained")
    figure.suptitle(title)
    loss, accuracy = figure.subplots(1, 2)
    plots.learning_curve(histories, axes=loss)
    plots.learning_curve(histories, "metric", axes=accuracy)
    loss.set(title="Training loss", ylabel="sum over a batch", yscale="log")
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter("{x:g}")
    accuracy.set(title="Accuracy", ylabel="share classified correctly")
    figure.savefig(path, dpi=120, format="png")
