"""One process at a time writes to a folder: a lock that the system frees when its holder ends.

The lock is `flock` on the folder itself, so that no file of it stays behind. The system frees it
however the process ends, by SIGKILL too, and a child that was forked does not keep it. Readers need
none. Windows has no such lock, and there none is taken.

A process holds the lock of a folder as long as any of its `Directory` values lives that saved
there. So a folder's two values in one process, such as a resumed run's, go together; a run is not
joined by another between two saves; and a notebook that is done frees the folder by `del`.
"""

from __future__ import annotations

import os
import sys
import threading
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from lincoln_fn.checkpoint.file import CheckpointError

if sys.platform != "win32":
    import fcntl


class _Held:
    """A folder that is open, and locked as long as this object lives."""

    def __init__(self, number: int) -> None:
        self.saving = threading.RLock()
        weakref.finalize(self, os.close, number)


class _Table:
    """Which folders this process holds, by device and inode, and for whom, by id."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.by_folder: weakref.WeakValueDictionary[tuple[int, int], _Held] = (
            weakref.WeakValueDictionary()
        )
        self.by_owner: dict[int, _Held] = {}


_table = _Table()


def _forget() -> None:
    """Close in a child what its parent holds, which then dies with the parent alone."""
    global _table
    _table.by_owner.clear()  # which its owners refer to, beside the table
    _table = _Table()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def writing(owner: object, folder: Path) -> Iterator[None]:
    """Hold a folder for this process as long as the owner lives, and for one thread within.

    Args:
        owner: a value that can be referred to weakly.
        folder: which has to be there.

    Yields:
        Nothing; meanwhile no other thread of the process writes there.

    Raises:
        CheckpointError: if another process holds it.
        OSError: if the folder cannot be opened.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with writing(lf.Key(0), Path(folder)): os.listdir(folder)
        []
    """
    if sys.platform == "win32":
        yield
        return
    with _table.guard:
        held = _hold(folder)
        if id(owner) not in _table.by_owner:
            weakref.finalize(owner, _table.by_owner.pop, id(owner), None).atexit = False
        _table.by_owner[id(owner)] = held
    with held.saving:
        yield


def _hold(folder: Path) -> _Held:
    """Lock a folder, or find the lock of it that this process has."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(number)
        # A folder that is removed and made anew is another, with a lock of its own.
        key = (status.st_dev, status.st_ino)
        held = _table.by_folder.get(key)
        if held is not None:
            os.close(number)
            return held
        fcntl.flock(number, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(number)
        problem = "another process saves checkpoints here; end it, or take another folder"
        raise CheckpointError(folder, problem) from error
    except OSError as error:
        # Some network file systems have no locks; a run should not end for it.
        problem = f"the folder cannot be locked against a second writer: {error.strerror}"
        warnings.warn(f"{folder}: {problem}", stacklevel=5)
    held = _table.by_folder[key] = _Held(number)
    return held
