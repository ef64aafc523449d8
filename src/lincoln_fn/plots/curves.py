"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeAlias

from lincoln_fn.plots._figure import COLOURS, Axes, new_axes
from lincoln_fn.training import FitRecord, StepRecord

History: TypeAlias = Sequence[FitRecord] | Sequence[StepRecord]


def learning_curve(
    history: History | Mapping[str, History],
    value: str = "loss",
    *,
    axes: Axes | None = None,
) -> Axes:
    """Draw the loss, the metric or a score of one or several runs against the step.

    Args:
        history: of a run, as `fit` returns it, or a list of the records of `train`; or several by
            name.
        value: "loss", "metric" for the metric on the validation data, or the name of a score:
            one that `streams.evaluated` adds, one of several metrics of `fit`, or a part of
            `losses.weighted`. Records without it are left out.

    Returns:
        The axes, with one line per run.

    Raises:
        ValueError: if there is no run, or one without records of the value.

    Example:
        >>> history = [lf.FitRecord(10, 1, 0.9, None, 0.1), lf.FitRecord(20, 2, 0.5, None, 0.2)]
        >>> learning_curve(history).lines[0].get_ydata().tolist()
        [0.9, 0.5]
    """
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
    label = {"loss": "training loss", "metric": "validation metric"}.get(value, value)
    axes.set(xlabel="step", ylabel=label)
    axes.set_title("Learning curve" if len(runs) == 1 else "Learning curves")
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
    """Return what can be drawn of a record, by name."""
    if isinstance(record, StepRecord):
        return {"loss": record.loss, **record.scores}
    metric = {} if record.metric is None else {"metric": record.metric}
    return {"loss": record.loss, **metric, **record.parts, **record.scores}
