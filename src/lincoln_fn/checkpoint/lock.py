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
from typing import Final

from lincoln_fn.checkpoint.file import CheckpointError

if sys.platform != "win32":
    import fcntl


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
    """Lock a folder, or return this process's existing lock."""
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
