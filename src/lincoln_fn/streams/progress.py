"""Show the progress of a run: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Annotated, Final, NoReturn, TextIO

import attrs
from tqdm import TqdmWarning, tqdm

from lincoln_fn._ipython import in_notebook
from lincoln_fn.arguments import OR_INFINITE, NonNegative, NonNegativeInt, checked
from lincoln_fn.streams.stream import Stream, closing
from lincoln_fn.train import StepRecord, TrainState

# Seconds between two updates of the bar: as fast as an eye can follow.
_BAR_SECONDS: Final = 0.1
_LINE_SECONDS: Final = 10.0
_LOOKS: Final = 5  # how often the clock is read in an interval

_BAR: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_LINE: Final = "{n_fmt}/{total_fmt} steps [{elapsed}<{remaining}{postfix}]"
_NO_TOTAL: Final = "{n_fmt} steps [{elapsed}{postfix}]"


@checked
def progress(
    stream: Stream,
    *,
    total: NonNegativeInt | None = None,
    seconds: Annotated[NonNegative, OR_INFINITE] = _LINE_SECONDS,
    file: TextIO | None = None,
) -> Iterator[tuple[TrainState, StepRecord]]:
    """Show steps, time left, mean loss, the latest scores and examples per second.

    On a terminal and in a notebook, that is a bar; a notebook with ipywidgets has tqdm's bar of
    widgets. Elsewhere a plain line is written at intervals, and at the end.

    Args:
        stream: such as `train` yields.
        total: the number of steps to come, such as `len(batches)`; None if it is not known.
        seconds: between two plain lines, at least 0. The loss is the mean since the last line.
        file: where to write; None is standard error, and in a notebook the cell's output.

    Yields:
        The stream's pairs, unchanged.

    Raises:
        LayerError: if total or seconds is below 0, or has the wrong type.

    Example:
        >>> list(progress([], total=0))
        []
    """
    return _showing(stream, total, seconds, file)


def _showing(
    stream: Stream, total: int | None, seconds: float, file: TextIO | None
) -> Iterator[tuple[TrainState, StepRecord]]:
    with closing("progress", stream) as steps, display(total, seconds=seconds, file=file) as show:
        for state, record in steps:
            show.step(record)
            yield state, record


@attrs.frozen(eq=False)
class Display:
    """The functions that show a run: `step` counts a step, `line` prints a text with its scores."""

    step: Callable[[StepRecord], None]
    line: Callable[[str, Mapping[str, float]], None]


@contextmanager
def display(
    total: int | None,
    *,
    shown: bool = True,
    seconds: float = _LINE_SECONDS,
    file: TextIO | None = None,
) -> Iterator[Display]:
    """Open a display of a run, for a loop that also writes its own lines.

    Lines go to standard output, above the bar if that is on the same terminal.

    Args:
        total: the number of steps to come; None if it is not known.
        shown: whether to show anything.
        seconds: between two plain lines, where there is no bar.
        file: where to write; None is standard error, and in a notebook the cell's output.

    Yields:
        The two functions. Anything they have not shown yet is shown at the end.

    Example:
        >>> with display(total=1) as show:
        ...     show.line("epoch 1", {})
        epoch 1
    """
    if not shown:
        yield Display(lambda record: None, lambda text, scores: None)
        return
    bar, file = _bar(total, file)
    interval = seconds if bar is None else _BAR_SECONDS
    began = shown_at = time.perf_counter()
    taken = steps = examples = 0  # `taken` since the beginning, the others since the last line
    losses, latest = 0.0, dict[str, float]()
    # A step only appends to a list: the records are read a few times per interval.
    waiting: list[StepRecord] = []
    due = 1

    def step(record: StepRecord) -> None:
        waiting.append(record)
        if len(waiting) >= due:
            look()

    def look() -> None:
        nonlocal due
        count()
        passed = time.perf_counter() - shown_at
        if passed >= interval:
            show(silently=False)
        if steps:
            due = max(1, int(steps * interval / (_LOOKS * max(passed, 1e-9))))

    def count() -> None:
        nonlocal steps, examples, losses
        steps += len(waiting)
        for record in waiting:
            examples += record.examples or 0
            losses += record.loss
            latest.update(record.scores)
        waiting.clear()

    def line(text: str, scores: Mapping[str, float]) -> None:
        latest.update(scores)
        show(silently=bar is None)  # the line itself has the content of a plain line
        tqdm.write(text)

    def show(*, silently: bool) -> None:
        nonlocal taken, steps, examples, losses, shown_at
        count()
        now = time.perf_counter()
        taken += steps
        if steps and not silently:
            rate = steps / (now - shown_at)
            numbers = {"loss": losses / steps, **latest}
            if bar is None:
                text = _text(numbers, rate, examples / steps)
                print(_line(taken, total, now - began, rate, text), file=file, flush=True)
            else:
                smooth = bar.format_dict["rate"] or rate
                bar.set_postfix_str(_text(numbers, smooth, examples / steps), refresh=False)
                bar.update(steps)
        steps, examples, losses, shown_at = 0, 0, 0.0, now

    try:
        yield Display(step, line)
    finally:
        show(silently=False)
        if bar is not None:
            bar.close()


def _bar(total: int | None, file: TextIO | None) -> tuple[tqdm[NoReturn] | None, TextIO]:
    """Make the bar, if there is one, and return it with the file that is written to."""
    make: Callable[..., tqdm[NoReturn]] | None
    if file is None and in_notebook():
        # The lines go to standard output, and a bar of text has to be on the same stream.
        make, file = _notebook_bar(), sys.stdout
    else:
        file = file or sys.stderr
        make = tqdm if file.isatty() else None
    if make is None:
        return None, file
    # It shows every update; `display` decides how often there is one.
    layout = _BAR if total else _NO_TOTAL
    return make(total=total, file=file, bar_format=layout, mininterval=0, miniters=0), file


def _notebook_bar() -> Callable[..., tqdm[NoReturn]]:
    """Return tqdm's bar of widgets; without ipywidgets, about which tqdm warns, its bar of text."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TqdmWarning)
        from tqdm.auto import tqdm as bar
    return bar


def _line(taken: int, total: int | None, elapsed: float, rate: float, text: str) -> str:
    layout = _LINE if total else _NO_TOTAL
    return tqdm.format_meter(taken, total or 0, elapsed, rate=rate, postfix=text, bar_format=layout)


def _text(numbers: Mapping[str, float], rate: float, examples: float) -> str:
    """Format numbers, and the speed: in examples if a step has any, else in steps."""
    speed = f"{rate * examples:,.0f} examples/s" if examples else f"{rate:,.1f} steps/s"
    return ", ".join([*(f"{name} {number:.4g}" for name, number in numbers.items()), speed])
