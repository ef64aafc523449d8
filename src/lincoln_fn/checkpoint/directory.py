"""A directory of checkpoints: the newest and the best, and none that a crash has damaged."""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, TypeVar

import attrs

from lincoln_fn import core
from lincoln_fn.checkpoint import folder
from lincoln_fn.checkpoint.contents import read_score
from lincoln_fn.checkpoint.file import CheckpointError, add_path_to_errors, check_score, load, save
from lincoln_fn.core import OR_INFINITE, NonNegativeInt, Positive, PositiveInt, check_argument
from lincoln_fn.streams.internal import closing
from lincoln_fn.training import TrainState

R = TypeVar("R")


def _folder(path: object) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise ValueError(f"Directory: expected the path of a folder, got {path!r}")
    return Path(text)


def _check_writable(path: Path) -> None:
    """Check that a file can be made in a folder, or in the one in which the first save makes it."""
    try:
        there = next(each for each in (path, *path.absolute().parents) if each.exists())
        with TemporaryFile(dir=there):
            pass
    except OSError as error:
        raise CheckpointError(path, f"cannot be written: {error.strerror}") from error


@attrs.frozen
class Directory:
    """The checkpoints of one run, in files named by step. One process at a time writes there.

    The first save locks the folder for as long as this process has a `Directory` object of it: a
    second process that saves there is refused. Loading needs no lock. On Windows there is none.

    Args:
        path: the folder; the first save makes it.
        keep_last: how many of the newest checkpoints are kept, at least 1.
        keep_best: how many of those with the highest scores are kept as well.

    Example:
        >>> Directory("runs/digits", keep_last=2)
        Directory(path=PosixPath('runs/digits'), keep_last=2, keep_best=1)
    """

    path: Path = attrs.field(converter=_folder)
    keep_last: int = 3
    keep_best: int = 1

    def __attrs_post_init__(self) -> None:
        check_argument("Directory", "keep_last", PositiveInt, self.keep_last)
        check_argument("Directory", "keep_best", NonNegativeInt, self.keep_best)

    def save(self, state: TrainState, *, score: float | None = None) -> Path:
        """Save a state, then remove the checkpoints that are not to be kept.

        Only two kinds of file are removed: files that a save has named and whose checksum over
        score and shapes is right, and temporary files of a killed run. Any other file with a
        checkpoint's name stays: it may belong to someone else, or be a damaged file that was the
        best. If such a file has the name of this step, it is renamed, with a warning.

        Args:
            state: the state; its step names the file.
            score: a finite number, higher is better: an accuracy, or a negated loss.
        """
        written = folder.file_of(self.path, state)
        with add_path_to_errors(written):
            score = check_score(score)
        self.path.mkdir(parents=True, exist_ok=True)
        with folder.writing(self, self.path):
            folder.set_aside(written)
            save(written, state, score=score)
            # The file just written stays, even if files of later steps are there.
            for file in folder.list_superfluous(self.path, self.keep_last, self.keep_best):
                if file != written:
                    file.unlink(missing_ok=True)
        return written

    def check_free(self) -> None:
        """Check that the folder can be written, and that no other process saves in it."""
        _check_writable(self.path)
        if self.path.is_dir():
            with folder.writing(self, self.path):
                pass

    def latest(self, like: TrainState) -> TrainState | None:
        """Load the newest checkpoint that can be loaded.

        A file that is damaged, or of another network, is skipped with a warning. `like` is as for
        `checkpoint.load`.

        Returns:
            The state; None if there is no checkpoint.

        Raises:
            CheckpointError: if there are checkpoints and none can be loaded, so that a run does not
                start again and remove them.
        """
        return self._first(self._newest_first, like)

    def best(self, like: TrainState) -> TrainState | None:
        """Load the checkpoint with the highest score, as `latest` does.

        A score whose checksum is wrong, or that is not finite, is ignored.

        Returns:
            The state, the earliest if scores are equal; None if no checkpoint has a score.
        """
        return self._first(self._best_first, like)

    def _newest_first(self) -> list[Path]:
        return folder.newest_first(self.path)

    def _best_first(self) -> list[Path]:
        return folder.rank_by_score(folder.read_scores(self._newest_first()))

    def _load(self, file: Path, like: TrainState) -> TrainState:
        return load(file, like)

    def _first(self, ranked: Callable[[], list[Path]], like: TrainState) -> TrainState | None:
        vanished = True
        while vanished:  # another run has removed all listed files while saving
            problems, vanished = list[str](), False
            for file in ranked():
                try:
                    state = self._load(file, like)
                except CheckpointError as error:
                    if os.path.lexists(file):
                        problems.append(str(error))
                    else:
                        vanished = True
                    continue
                for problem in problems:
                    warnings.warn(f"passed over a checkpoint: {problem}", stacklevel=3)
                return state
        if problems:
            raise CheckpointError(self.path, "\n".join(["no checkpoint can be loaded", *problems]))
        return None


@core.checked
def every(
    stream: Iterable[tuple[TrainState, R]],
    directory: Directory,
    *,
    steps: PositiveInt | None = None,
    seconds: Annotated[Positive, OR_INFINITE] | None = None,
    score: Callable[[TrainState], float] | None = None,
) -> Iterator[tuple[TrainState, R]]:
    """Save checkpoints of a stream of states: at intervals, and at its end.

    Args:
        steps: save after each step that is a multiple of it.
        seconds: save after the first step that ends this long after the last save.
        score: a function of the state, higher is better; the directory keeps the best. A state
            whose score is not finite is saved without one, with a warning.

    Yields:
        The stream's pairs; a state is saved before it is yielded.

    Raises:
        ValueError: if neither steps nor seconds is given.
        CheckpointError: during iteration, as `Directory.save` does; before the first step, if the
            directory cannot be written, or another process saves in it.

    Example:
        >>> list(every([], Directory("runs/digits"), steps=100))
        []
    """
    if steps is None and seconds is None:
        raise ValueError("every: expected steps or seconds, got neither")

    def save_scored(state: TrainState) -> None:
        value = None if score is None else score(state)
        number = read_score(value)
        if value is not None and number is None:  # not worth ending a long run
            problem = f"step {int(state.step)} is saved without its score, which is {value!r}"
            warnings.warn(f"every: {problem}", stacklevel=3)
        directory.save(state, score=number)

    def saving() -> Iterator[tuple[TrainState, R]]:
        with closing("every", stream, needs=(0, "step")) as pairs:
            directory.check_free()  # a second run is refused before its first step
            unsaved, saved_at = None, time.monotonic()
            for state, record in pairs:
                unsaved = state
                due = steps is not None and int(state.step) % steps == 0
                if due or (seconds is not None and time.monotonic() - saved_at >= seconds):
                    save_scored(state)
                    unsaved, saved_at = None, time.monotonic()
                yield state, record
            if unsaved is not None:
                save_scored(unsaved)

    return saving()
