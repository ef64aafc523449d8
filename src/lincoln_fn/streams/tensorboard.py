"""Write event files for TensorBoard."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from lincoln_fn.core import PositiveInt, checked
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.training import StepRecord, TrainState


@checked
def tensorboard(
    stream: Stream, folder: str | os.PathLike[str], *, every: PositiveInt = 1
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Write losses and scores to an event file, by torch's `SummaryWriter`.

    The file is made at the first step. For that step and later ones, TensorBoard ignores earlier
    files in the folder. So a resumed run looks like one that was not stopped.

    Args:
        folder: where the event file goes; made if it does not exist.
        every: write the loss of each step that is a multiple of it; scores are always written.

    Yields:
        The stream's pairs, unchanged.

    Raises:
        ImportError: if the package tensorboard is not installed.

    Example:
        >>> steps = tensorboard([], "runs/digits")  # doctest: +SKIP
    """
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        mend = "pip install 'lincoln_fn[tensorboard]'"
        raise ImportError(f"tensorboard: expected the package tensorboard; {mend}") from error

    def writing() -> Iterator[tuple[TrainState, StepRecord]]:
        writer: Any = None  # Any: torch gives it no types
        with closing("tensorboard", stream) as steps:
            try:
                for state, record in steps:
                    if writer is None:
                        writer = SummaryWriter(str(folder), purge_step=record.step, flush_secs=10)
                    if record.scores or record.step % every == 0:
                        for name, value in {"loss": record.loss, **record.scores}.items():
                            writer.add_scalar(name, value, record.step)
                    yield state, record
            finally:
                if writer is not None:
                    writer.close()

    return writing()
