"""Show the progress of a run: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, TextIO

from lincoln_fn.core import OR_INFINITE, NonNegative, NonNegativeInt, checked
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.training import LINE_SECONDS, StepRecord, TrainState, display


@checked
def progress(
    stream: Stream,
    *,
    total: NonNegativeInt | None = None,
    seconds: Annotated[NonNegative, OR_INFINITE] = LINE_SECONDS,
    file: TextIO | None = None,
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Show steps, time left, mean loss, the latest scores and examples per second.

    On a terminal and in a notebook, that is a bar; a notebook with ipywidgets has tqdm's bar of
    widgets. Elsewhere a plain line is written at intervals, and at the end.

    Args:
        total: the number of steps to come, such as `len(batches)`; None if it is not known.
        seconds: between two plain lines, at least 0. The loss is the mean since the last line.
        file: where to write; None is standard error, and in a notebook the cell's output.

    Example:
        >>> list(progress([], total=0))
        []
    """
    with closing("progress", stream) as steps, display(total, seconds=seconds, file=file) as show:
        for state, record in steps:
            show.step(record)
            yield state, record
