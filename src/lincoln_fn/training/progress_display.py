"""The display of a run: a bar on a terminal and in a notebook, plain lines elsewhere."""

from __future__ import annotations

import sys
import time
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Final, NoReturn, TextIO

import attrs
from tqdm import TqdmWarning, tqdm

from lincoln_fn.runtime import in_notebook
from lincoln_fn.training.train import StepRecord

# Seconds between two updates of the bar: as fast as an eye can follow.
_BAR_SECONDS: Final = 0.1
LINE_SECONDS: Final = 10.0

_BAR: Final = "{l_bar}{bar}| {n_fmt}/{total_fmt} [{elapsed}<{remaining}{postfix}]"
_LINE: Final = "{n_fmt}/{total_fmt} steps [{elapsed}<{remaining}{postfix}]"
_NO_TOTAL: Final = "{n_fmt} steps [{elapsed}{postfix}]"


@contextmanager
def display(
    total: int | None,
    *,
    shown: bool = True,
    seconds: float = LINE_SECONDS,
    file: TextIO | None = None,
) -> Iterator[Display]:
    """Open a display of a run, for a loop that also writes its own lines."""
    # Lines go to standard output, above the bar if that is on the same terminal.
    bar, file = _bar(total, file) if shown else (None, None)
    interval, now = seconds if bar is None else _BAR_SECONDS, time.perf_counter()
    view = Display(total, interval, bar, file, began=now, shown_at=now)
    try:
        yield view
    finally:
        view.show()
        if bar is not None:
            bar.close()


@attrs.define(eq=False)
class Display:
    """The counts of a run, and the bar or lines that show them; without a file, nothing does."""

    total: int | None
    interval: float
    bar: tqdm[NoReturn] | None
    file: TextIO | None
    began: float
    shown_at: float
    taken: int = 0  # since the beginning; the next three since the last line
    steps: int = 0
    examples: int = 0
    losses: float = 0.0
    scores: dict[str, float] = attrs.field(factory=dict)  # the latest of each

    def step(self, record: StepRecord) -> None:
        """Count a step, and show all if that is due."""
        self.steps += 1
        self.examples += record.examples or 0
        self.losses += record.loss
        self.scores.update(record.scores)
        if time.perf_counter() - self.shown_at >= self.interval:
            self.show()

    def line(self, text: str, scores: Mapping[str, float]) -> None:
        """Print a text in place of a plain line."""
        if self.file is not None:
            self.scores.update(scores)
            self.show(silently=self.bar is None)
            tqdm.write(text)

    def show(self, *, silently: bool = False) -> None:
        """Show the steps since the last line, and start a new count."""
        now = time.perf_counter()
        self.taken += self.steps
        if self.steps and self.file is not None and not silently:
            self.write(now)
        self.steps, self.examples, self.losses, self.shown_at = 0, 0, 0.0, now

    def write(self, now: float) -> None:
        """Move the bar, or print a plain line."""
        rate, examples = self.steps / (now - self.shown_at), self.examples / self.steps
        numbers = {"loss": self.losses / self.steps, **self.scores}
        if self.bar is None:
            layout, text = _LINE if self.total else _NO_TOTAL, _text(numbers, rate, examples)
            line = tqdm.format_meter(
                self.taken, self.total or 0, now - self.began, rate=rate, postfix=text,
                bar_format=layout,
            )  # fmt: skip
            print(line, file=self.file, flush=True)
        else:
            smooth = self.bar.format_dict["rate"] or rate
            self.bar.set_postfix_str(_text(numbers, smooth, examples), refresh=False)
            self.bar.update(self.steps)


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


def _text(numbers: Mapping[str, float], rate: float, examples: float) -> str:
    """Format numbers, and the speed: in examples if a step has any, else in steps."""
    speed = f"{rate * examples:,.0f} examples/s" if examples else f"{rate:,.1f} steps/s"
    return ", ".join([*(f"{name} {number:.4g}" for name, number in numbers.items()), speed])
