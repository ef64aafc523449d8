"""A directory of checkpoints: the newest and the best, and none that a crash has damaged.

One process at a time writes there, by a lock that the system frees when its holder ends: `flock` on
the folder itself, so no lock file is left over. The system frees it even after SIGKILL, and a
forked child does not keep it. Readers need no lock. Windows has no such lock, so none is used.

Two `Directory` objects of one process share the lock, as a resumed run needs; `del` frees it.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Final, TypeVar

import attrs
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.checkpoint import file as files
from lincoln_fn.checkpoint.contents import read_score
from lincoln_fn.checkpoint.file import CheckpointError, check_score, load, save, score_of
from lincoln_fn.core import OR_INFINITE, NonNegativeInt, Positive, PositiveInt, check_argument
from lincoln_fn.streams.internal import closing
from lincoln_fn.training import TrainState

if sys.platform != "win32":
    import fcntl

# Files of any such name are loaded; only names that `save` gives are removed.
_FILE: Final = re.compile(r"step_([0-9]+)\.safetensors")
_OWN: Final = re.compile(r"step_([0-9]{9}|[1-9][0-9]{9,})\.safetensors")
_LEFTOVER: Final = re.compile(r"\.step_[0-9]{9,}\.safetensors\.[0-9a-f]{8}\.tmp")


def file_of(path: Path, state: object) -> Path:
    """Name the file of a state by its step."""
    number = step = getattr(state, "step", None)
    if isinstance(step, Tensor) and step.numel() == 1 and not step.is_meta:
        number = step.item()
    if type(number) is not int or not 0 <= number < 2**63:
        got = type(state).__name__ if step is None else f"step {step!r}"
        raise CheckpointError(path, f"expected a state with a step of at least 0, got {got}")
    return path / f"step_{number:09}.safetensors"


def newest_first(path: Path) -> list[Path]:
    """List the files with a checkpoint's name, the latest step first."""
    matches = [match for name in _names(path) if (match := _FILE.fullmatch(name))]
    steps = {match[0]: int(match[1]) for match in matches}
    return [path / name for name in sorted(steps, key=lambda n: (steps[n], n), reverse=True)]


def rank_by_score(scores: dict[Path, float | None]) -> list[Path]:
    """Rank files, given the latest first, by their scores; of equal ones, the earliest leads."""
    finite = {file: score for file, score in reversed(scores.items()) if score is not None}
    return sorted(finite, key=lambda file: finite[file], reverse=True)


def list_superfluous(path: Path, last: int, best: int) -> list[Path]:
    """List the files that a directory has written and need not keep."""
    # Files count as its own if a save has named them, they are not symbolic links, and their
    # checksum over score and shapes is right. Damaged files, and those of someone else, are neither
    # removed nor counted. Temporary files of a killed save are its own, too.
    named = [file for file in newest_first(path) if _OWN.fullmatch(file.name) and _is_file(file)]
    scores = read_scores(named)
    needed = {*list(scores)[:last], *rank_by_score(scores)[:best]}
    leftovers = [path / name for name in _names(path) if _LEFTOVER.fullmatch(name)]
    return [file for file in [*scores, *filter(_is_file, leftovers)] if file not in needed]


def set_aside(file: Path) -> None:
    """Rename a file in a checkpoint's place that is damaged or not a checkpoint, to keep it."""
    if not file.is_file():
        return
    try:
        score_of(file)
    except CheckpointError as error:
        aside = file.with_name(f"{file.name}.{secrets.token_hex(4)}.aside")
        file.rename(aside)
        # The warning names the caller of `Directory.save`.
        warnings.warn(f"renamed to {aside.name}, to save in its place: {error}", stacklevel=3)


def _names(path: Path) -> list[str]:
    try:
        return os.listdir(path)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise CheckpointError(path, f"cannot be listed: {error.strerror}") from error


def read_scores(files: Iterable[Path]) -> dict[Path, float | None]:
    """Read the scores whose checksums are right; `latest` warns about the other files."""
    scores: dict[Path, float | None] = {}
    for file in files:
        try:
            scores[file] = score_of(file)
        except CheckpointError:
            continue
    return scores


def _is_file(file: Path) -> bool:
    return file.is_file() and not file.is_symlink()


# Which folders this process has locked, by device and inode. A folder is open, and so locked, as
# long as its lock between threads exists. Its owners keep that, by id.
_BY_FOLDER: Final = weakref.WeakValueDictionary[tuple[int, int], threading.RLock]()
_BY_OWNER: Final = dict[int, threading.RLock]()
_guard = threading.RLock()


def _forget() -> None:
    """Close the parent's locks in a forked child, so that they end with the parent."""
    global _guard
    _guard = threading.RLock()
    _BY_OWNER.clear()
    _BY_FOLDER.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def writing(owner: object, folder: Path) -> Iterator[None]:
    """Lock a folder for this process while the owner exists, and for one thread in the block."""
    if sys.platform == "win32":
        yield
        return
    with _guard:
        lock = _lock(folder)
        if id(owner) not in _BY_OWNER:
            weakref.finalize(owner, _BY_OWNER.pop, id(owner), None).atexit = False
        _BY_OWNER[id(owner)] = lock
    with lock:
        yield


def _lock(folder: Path) -> threading.RLock:
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(number)
        # A folder that was removed and created again is a new one, with its own lock.
        key = (status.st_dev, status.st_ino)
        lock = _BY_FOLDER.get(key)
        if lock is not None:
            os.close(number)
            return lock
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        problem = "another process saves checkpoints here; end it, or take another folder"
        raise CheckpointError(folder, problem) from error
    except OSError as error:
        # Some network file systems have no locks. That should not end a run.
        problem = f"the folder cannot be locked against a second writer: {error.strerror}"
        warnings.warn(f"{folder}: {problem}", stacklevel=5)
    lock = _BY_FOLDER[key] = threading.RLock()
    weakref.finalize(lock, os.close, number)
    return lock


R = TypeVar("R")


def _folder(path: object) -> Path:
    text = os.fspath(path) if isinstance(path, str | os.PathLike) else None
    if not isinstance(text, str) or "\0" in text:
        raise ValueError(f"Directory: expected the path of a folder, got {path!r}")
    return Path(text)


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
        written = file_of(self.path, state)
        with files.add_path_to_errors(written):
            score = check_score(score)
        self.path.mkdir(parents=True, exist_ok=True)
        with writing(self, self.path):
            set_aside(written)
            save(written, state, score=score)
            # The file just written stays, even if files of later steps are there.
            for file in list_superfluous(self.path, self.keep_last, self.keep_best):
                if file != written:
                    file.unlink(missing_ok=True)
        return written

    def check_free(self) -> None:
        """Check that the folder can be written, and that no other process saves in it."""
        # A file can be made in it, or in the folder in which the first save makes it.
        folders = (self.path, *self.path.absolute().parents)
        try:
            with TemporaryFile(dir=next(folder for folder in folders if folder.exists())):
                pass
        except OSError as error:
            raise CheckpointError(self.path, f"cannot be written: {error.strerror}") from error
        if self.path.is_dir():
            with writing(self, self.path):
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

        A score whose checksum is wrong, or that is not finite, is ignored. Of equal scores, the
        earliest leads. If no checkpoint has a score, None is returned.
        """
        return self._first(self._best_first, like)

    def _newest_first(self) -> list[Path]:
        return newest_first(self.path)

    def _best_first(self) -> list[Path]:
        return rank_by_score(read_scores(self._newest_first()))

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

    A state is saved before it is yielded.

    Args:
        steps: save after each step that is a multiple of it.
        seconds: save after the first step that ends this long after the last save.
        score: a function of the state, higher is better; the directory keeps the best. A state
            whose score is not finite is saved without one, with a warning.

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
