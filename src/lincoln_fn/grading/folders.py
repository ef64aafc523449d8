"""The folder in which a stranger's process may write."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

# Bytes, and files and folders.
LARGEST = 64 << 20
MOST = 1000


class TooMuchError(Exception):
    """A process wrote too much."""


def check_size(folder: Path) -> None:
    """Raise an error if a folder is larger than it may be."""
    size = 0
    for count, added in enumerate(_sizes(folder)):
        size += added
        if size > LARGEST or count >= MOST:
            raise TooMuchError


def _sizes(folder: Path) -> Iterator[int]:
    folders = [os.fspath(folder)]
    while folders:
        try:
            with os.scandir(folders.pop()) as entries:
                for entry in entries:
                    yield entry.stat(follow_symlinks=False).st_size
                    if entry.is_dir(follow_symlinks=False):
                        folders.append(entry.path)
        except FileNotFoundError:  # it may have been removed meanwhile
            continue
        except OSError:  # a path too long, or a folder that none may read
            raise TooMuchError from None


def empty(folder: Path) -> None:
    """Remove all that is in a folder, however deep, and whoever may read it."""
    while left := list(os.scandir(folder)):
        for entry in left:
            if not entry.is_dir(follow_symlinks=False):
                os.unlink(entry.path)
                continue
            # What is inside moves up, so that no path becomes long.
            os.chmod(entry.path, 0o700)
            for inner in list(os.scandir(entry.path)):
                os.rename(inner.path, folder / uuid4().hex)
            os.rmdir(entry.path)
