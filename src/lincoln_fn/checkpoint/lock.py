"""One process at a time writes to a folder: a lock that the system frees when its holder ends.

The lock is `flock` on the folder itself, so no lock file is left over. The system frees it when the
process ends, even by SIGKILL, and a forked child does not keep it. Readers need no lock. Windows
has no such lock, so none is used there.

A process holds the lock of a folder as long as one of its `Directory` objects that saved there
exists. So two objects in one process can share a folder, as a resumed run needs. No other process
can start to save there between two saves. A notebook frees the folder by `del`.
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
    """An open folder, locked as long as this object exists."""

    def __init__(self, number: int) -> None:
        self.saving = threading.RLock()
        weakref.finalize(self, os.close, number)


class _Table:
    """Which folders this process has locked, by device and inode, and for which owners, by id."""

    def __init__(self) -> None:
        self.guard = threading.RLock()
        self.by_folder: weakref.WeakValueDictionary[tuple[int, int], _Held] = (
            weakref.WeakValueDictionary()
        )
        self.by_owner: dict[int, _Held] = {}


_table = _Table()


def _forget() -> None:
    """Close the parent's locks in a forked child, so that they end with the parent."""
    global _table
    _table.by_owner.clear()  # the owners keep references, too
    _table = _Table()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


@contextmanager
def writing(owner: object, folder: Path) -> Iterator[None]:
    """Lock a folder for this process while the owner exists, and for one thread in the block."""
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
    """Lock a folder, or return this process's existing lock."""
    number = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        status = os.fstat(number)
        # A folder that was removed and created again is a new one, with its own lock.
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
        # Some network file systems have no locks. That should not end a run.
        problem = f"the folder cannot be locked against a second writer: {error.strerror}"
        warnings.warn(f"{folder}: {problem}", stacklevel=5)
    held = _table.by_folder[key] = _Held(number)
    return held
