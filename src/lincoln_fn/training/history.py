"""The history of a run of `fit`, and whether a score in it is better than the best so far."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Literal, TypeAlias

import attrs

from lincoln_fn.core import record, shown

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
