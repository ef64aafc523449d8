"""The picture of a learning curve, which the examples save for `--plot FILE.png`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import lincoln_fn as lf


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
    for name, history in histories.items():
        steps = [record.step for record in history]
        loss.plot(steps, [record.loss for record in history], ".-", label=name)
        accuracy.plot(steps, [record.metric for record in history], ".-")
    loss.set(title="Training loss", xlabel="step", ylabel="sum over a batch", yscale="log")
    loss.yaxis.set_major_formatter("{x:g}")
    loss.yaxis.set_minor_formatter("{x:g}")
    accuracy.set(title="Accuracy", xlabel="step", ylabel="share classified correctly")
    for axes in (loss, accuracy):
        axes.grid(which="both", alpha=0.3)
    figure.legend(loc="outside lower center", ncols=len(histories))
    figure.savefig(path, dpi=120, format="png")
