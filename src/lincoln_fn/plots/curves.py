"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Literal, TypeAlias

from lincoln_fn.plots._figure import COLOURS, new_axes
from lincoln_fn.training.fit import FitRecord
from lincoln_fn.training.train import StepRecord

if TYPE_CHECKING:
    from matplotlib.axes import Axes

History: TypeAlias = Sequence[FitRecord] | Sequence[StepRecord]


def learning_curve(
    history: History | Mapping[str, History],
    value: Literal["loss", "metric"] = "loss",
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw the loss or the metric of one or several runs against the step.

    Args:
        history: of a run, as `fit` returns it, or a list of the records of `train`; or several by
            name.
        value: "loss", or "metric" for the metric on the validation data.
        axes: to draw on; None makes a figure.

    Returns:
        The axes, with one line per run.

    Raises:
        ValueError: if there is no run, or one without records of the value, or no such value.
        ImportError: if matplotlib is not installed.

    Example:
        >>> history = [lf.FitRecord(10, 1, 0.9, None, 0.1), lf.FitRecord(20, 2, 0.5, None, 0.2)]
        >>> learning_curve(history).lines[0].get_ydata().tolist()
        [0.9, 0.5]
    """
    if value not in ("loss", "metric"):
        raise ValueError(f"learning_curve: expected value loss or metric, got {value!r}")
    runs = history if isinstance(history, Mapping) else {"": history}
    if not runs:
        raise ValueError("learning_curve: expected at least one run, got none")
    points = {name: _points(name, run, value) for name, run in runs.items()}
    axes = new_axes() if axes is None else axes
    for i, (name, (steps, values)) in enumerate(points.items()):
        # Several runs have different markers, too; many points would merge into a broad line.
        marker = "os^Dv"[i % 5] if len(steps) <= 60 else None
        style = ("-", "--", "-.", ":")[i // len(COLOURS) % 4]
        colour = COLOURS[i % len(COLOURS)]
        axes.plot(
            steps, values, style, color=colour, marker=marker, markersize=3.5, label=name or None
        )
    axes.set(xlabel="step", ylabel="training loss" if value == "loss" else "validation metric")
    axes.set_title("Learning curve" if len(runs) == 1 else "Learning curves")
    axes.grid(alpha=0.3)
    if any(runs):
        axes.legend()
    return axes


def _points(name: str, run: History, value: str) -> tuple[list[int], list[float]]:
    steps, values = [], []
    for record in run:
        number: float | None = getattr(record, value, None)
        if number is not None:
            steps.append(record.step)
            values.append(number)
    if not steps:
        of = f" of {name!r}" if name else ""
        raise ValueError(f"learning_curve: expected records with a {value}, got none{of}")
    return steps, values
