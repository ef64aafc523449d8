"""The folder of a run's checkpoints: names, the newest, the best, and the lock of its writer.

One process at a time writes there, by a lock that the system frees when its holder ends: `flock` on
the folder itself, so no lock file is left over. The system frees it even after SIGKILL, and a
forked child does not keep it. Readers need no lock. Windows has no such lock, so none is used.

A process holds the lock as long as one of its `Directory` objects that saved there exists. So two
objects in one process can share a folder, as a resumed run needs. A notebook frees it by `del`.
"""

from __future__ import annotations

import os
import re
import secrets
import sys
import threading
import warnings
import weakref
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from torch import Tensor

from lincoln_fn.checkpoint.file import CheckpointError, score_of

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
