"""The history of a run of `fit`, and whether a score in it is better than the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise
from typing import Literal, TypeAlias

import attrs

from lincoln_fn.core import record, shown, warn
from lincoln_fn.training.train import StepRecord, TrainState

Mode: TypeAlias = Literal["max", "min"]


def is_gain(score: float, best: float | None, mode: Mode, min_delta: float = 0.0) -> bool:
    """Return whether a score is better than the best so far. `nan` never is."""
    if math.isnan(score):
        return False
    if best is None:
        return True
    return score > best + min_delta if mode == "max" else score < best - min_delta


@record
class FitRecord:
    """One line of a training history.

    `loss` is the mean loss of the steps since the previous line. `metric` is the metric on the
    validation data (None if there is none), and `seconds` the time since training began. `parts`
    are the means of the parts of `losses.weighted`, by name. `scores` are all metrics by name; of
    several, `metric` is the first.
    """

    step: int
    epoch: int
    loss: float
    metric: float | None
    seconds: float
    parts: Mapping[str, float] = attrs.field(factory=dict)
    scores: Mapping[str, float] = attrs.field(factory=dict)

    def __str__(self) -> str:
        numbers = {"loss": self.loss, **self.parts}
        if self.metric is not None:
            numbers |= self.scores or {"metric": self.metric}
        shown = "".join(f"  {name} {number:.4f}" for name, number in numbers.items())
        return f"epoch {self.epoch}  step {self.step}{shown}"


class History(tuple[FitRecord, ...]):
    """The records of a run, in their order; a notebook shows their curve."""

    __slots__ = ()

    def _repr_html_(self) -> str:
        return shown(self)


def warn_of_falling(history: list[FitRecord], mode: Mode) -> None:
    """Warn if the metric of a run that stopped early only fell: a loss has mode="min"."""
    metrics = [record.metric for record in history if record.metric is not None]
    is_falling = len(metrics) > 2 and all(after < before for before, after in pairwise(metrics))
    if mode == "max" and is_falling:
        problem = f"the metric only fell, from {metrics[0]:.4g} to {metrics[-1]:.4g}"
        mend = "for a metric that should fall, such as a loss, write mode='min'"
        warn(f"fit: {problem}, and the first state is returned; {mend}")


def summarise(
    epoch: int,
    state: TrainState,
    records: list[StepRecord],
    scores: Mapping[str, float],
    seconds: float,
) -> FitRecord:
    """Make a line of the history: the means of some steps' losses and parts, and the scores."""
    loss = sum(step.loss for step in records) / len(records)
    parts = {
        name: sum(step.scores[name] for step in records) / len(records)
        for name in records[0].scores
    }
    metric = next(iter(scores.values()), None)
    return FitRecord(int(state.step), epoch, loss, metric, seconds, parts, scores)
