"""A directory of checkpoints: the newest, the best, and none that a crash has spoilt."""

from __future__ import annotations

import math
import os
import re
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import TypeVar

import attrs

from lincoln_fn.checkpoint.file import CheckpointError, load, save, score_of
from lincoln_fn.train import TrainState

R = TypeVar("R")

_FILE = re.compile(r"step_(\d+)\.safetensors")
_LEFTOVER = re.compile(r"\.step_\d+\.safetensors\.[0-9a-f]+\.tmp")


def _at_least(least: int) -> Callable[[object, attrs.Attribute[int], int], None]:
    def check(_: object, attribute: attrs.Attribute[int], number: int) -> None:
        if number < least:
            problem = f"expected {attribute.name} of at least {least}, got {number}"
            raise ValueError(f"Directory: {problem}")

    return check


@attrs.frozen
class Directory:
    """The checkpoints of one run, in files named by step. One process at a time writes there.

    Args:
        path: the folder; the first save makes it.
        keep_last: how many of the newest checkpoints a save leaves, at least 1.
        keep_best: how many of those with the highest scores it leaves beside them.

    Raises:
        ValueError: if a number is below its least.

    Example:
        >>> Directory("runs/digits", keep_last=2)
        Directory(path=PosixPath('runs/digits'), keep_last=2, keep_best=1)
    """

    path: Path = attrs.field(converter=Path)
    keep_last: int = attrs.field(default=3, validator=_at_least(1))
    keep_best: int = attrs.field(default=1, validator=_at_least(0))

    def save(self, state: TrainState, *, score: float | None = None) -> Path:
        """Write a state, then remove the checkpoints that are not to be kept.

        Temporary files that a killed run has left are removed too.

        Args:
            state: the state; its step names the file.
            score: the higher the better, such as an accuracy, or minus a loss; `nan` counts as
                none.

        Returns:
            The file.

        Raises:
            CheckpointError: as `checkpoint.save` does.
            OSError: if the file cannot be written.
        """
        self.path.mkdir(parents=True, exist_ok=True)
        written = self.path / f"step_{int(state.step):09}.safetensors"
        save(written, state, score=score)
        # The file just written stays, even if files of later steps, perhaps damaged, are there.
        files = self._newest_first()
        kept = {written, *files[: self.keep_last], *self._best_first()[: self.keep_best]}
        leftovers = [file for file in self.path.iterdir() if _LEFTOVER.fullmatch(file.name)]
        for file in [*files, *leftovers]:
            if file not in kept:
                file.unlink(missing_ok=True)
        return written

    def latest(self, like: TrainState) -> TrainState | None:
        """Load the newest checkpoint that can be loaded.

        A file that cannot, for it is damaged or of another network, is told of by a warning, and
        the next one is taken.

        Args:
            like: as for `checkpoint.load`.

        Returns:
            The state; None if there is no checkpoint.

        Raises:
            CheckpointError: if there are checkpoints and none can be loaded, lest a run begin anew
                and remove what might be saved.
        """
        return self._first(self._newest_first(), like)

    def best(self, like: TrainState) -> TrainState | None:
        """Load the checkpoint with the highest score, in the way of `latest`.

        Args:
            like: as for `checkpoint.load`.

        Returns:
            The state, of equal scores the earliest; None if no checkpoint has a score.

        Raises:
            CheckpointError: if there are checkpoints with scores and none can be loaded.
        """
        return self._first(self._best_first(), like)

    def _first(self, files: list[Path], like: TrainState) -> TrainState | None:
        problems = []
        for file in files:
            try:
                state = load(file, like)
            except CheckpointError as error:
                problems.append(str(error))
                continue
            for problem in problems:
                warnings.warn(f"passed over a checkpoint: {problem}", stacklevel=3)
            return state
        if problems:
            raise CheckpointError(self.path, "\n".join(["no checkpoint can be loaded", *problems]))
        return None

    def _newest_first(self) -> list[Path]:
        names = os.listdir(self.path) if self.path.is_dir() else []
        steps = {name: int(match[1]) for name in names if (match := _FILE.fullmatch(name))}
        return [self.path / name for name in sorted(steps, key=lambda n: steps[n], reverse=True)]

    def _best_first(self) -> list[Path]:
        scores: dict[Path, float] = {}
        for file in reversed(self._newest_first()):
            try:
                score = score_of(file)
            except CheckpointError:
                continue  # `latest` tells of it
            if score is not None and not math.isnan(score):
                scores[file] = score
        return sorted(scores, key=lambda file: scores[file], reverse=True)


def every(
    stream: Iterable[tuple[TrainState, R]],
    directory: Directory,
    *,
    steps: int | None = None,
    seconds: float | None = None,
    score: Callable[[TrainState], float] | None = None,
) -> Iterator[tuple[TrainState, R]]:
    """Save a checkpoint every so often while a stream of states goes by, and at its end.

    Args:
        stream: such as `train` gives.
        directory: where the checkpoints go.
        steps: save after each step that is a multiple of it.
        seconds: save after the first step that ends so long after the last save.
        score: tells how good a state is; the directory keeps the best.

    Yields:
        What the stream gives; a state that is saved is saved before it goes on.

    Raises:
        ValueError: if neither steps nor seconds is given, or one is not above 0.

    Example:
        >>> list(every([], Directory("runs/digits"), steps=100))
        []
    """
    if steps is None and seconds is None:
        raise ValueError("every: expected steps or seconds, got neither")
    for name, number in (("steps", steps), ("seconds", seconds)):
        if number is not None and number <= 0:
            raise ValueError(f"every: expected {name} above 0, got {number}")
    return _saving(stream, directory, steps, seconds, score)


def _saving(
    stream: Iterable[tuple[TrainState, R]],
    directory: Directory,
    steps: int | None,
    seconds: float | None,
    score: Callable[[TrainState], float] | None,
) -> Iterator[tuple[TrainState, R]]:
    def save_scored(state: TrainState) -> None:
        directory.save(state, score=None if score is None else score(state))

    unsaved, saved_at = None, time.monotonic()
    for state, record in stream:
        unsaved = state
        due = steps is not None and int(state.step) % steps == 0
        if due or (seconds is not None and time.monotonic() - saved_at >= seconds):
            save_scored(state)
            unsaved, saved_at = None, time.monotonic()
        yield state, record
    if unsaved is not None:
        save_scored(unsaved)
