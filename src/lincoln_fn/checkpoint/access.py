"""Open files safely: only regular files are read or replaced, and opening never blocks."""

from __future__ import annotations

import errno
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, Final

import torch
from torch import Tensor

# A FIFO is opened without waiting for its other end. Windows has other flags.
_FLAGS: Final = ("O_NONBLOCK", "O_NOCTTY", "O_BINARY")
_FLAG: Final = sum(getattr(os, name, 0) for name in _FLAGS)
_KINDS: Final = {
    stat.S_IFDIR: "directory",
    stat.S_IFIFO: "FIFO",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "device",
}
_PROBLEMS: Final = {
    errno.ENOENT: "no such file",
    errno.ENOTDIR: "no such file",
    errno.ELOOP: "cannot be opened: it is a loop of symbolic links",
    errno.EACCES: "cannot be opened: permission denied",
}


@contextmanager
def reading(path: Path) -> Iterator[tuple[BinaryIO, int]]:
    """Open a regular file to be read, and yield it with its size in bytes."""
    _check_name(path)
    try:
        # Checked before opening, because opening alone can act on a device, and again after it,
        # because the file may have been replaced.
        _check_kind(os.stat(path), "read")
        number = os.open(path, os.O_RDONLY | _FLAG)
        with open(number, "rb") as file:
            status = os.fstat(number)
            _check_kind(status, "read")
            yield file, status.st_size
    except OSError as error:
        problem = _PROBLEMS.get(error.errno or 0, f"cannot be read: {error.strerror}")
        if error.errno == errno.ENOENT and path.is_symlink():
            problem = f"no such file: the symbolic link leads to {os.readlink(path)}"
        raise ValueError(problem) from error


def read_bytes(file: BinaryIO, size: int) -> Tensor:
    """Read a given number of bytes, as uint8, or raise a ValueError if the file is shorter."""
    raw = torch.empty(size, dtype=torch.uint8, device="cpu")
    # `readinto` reads until the buffer is full or the file ends.
    if file.readinto(raw.numpy().data) < size:  # type: ignore[attr-defined]  # typeshed's BinaryIO lacks it
        raise ValueError("is damaged: it became shorter while it was read")
    return raw


@contextmanager
def replacing(path: Path, *, follows: bool = True) -> Iterator[BinaryIO]:
    """Write a file that replaces the old one only when it is complete."""
    # A symbolic link stays, and its target is replaced, or the link itself if it is not followed.
    # The new file gets the old file's mode.
    _check_name(path)
    is_link = path.is_symlink()
    target = Path(os.path.realpath(path)) if is_link and follows else path
    mode = None if is_link and not follows else _mode(target)
    # Only the beginning of the name: the full name may already have the maximum length.
    temporary = target.with_name(f".{target.name[:40]}.{secrets.token_hex(4)}.tmp")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAG
    try:
        with open(os.open(temporary, flags, 0o666 if mode is None else mode), "wb") as file:
            # The process's umask may have removed permissions.
            if mode is not None and os.name == "posix":
                os.fchmod(file.fileno(), mode)
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)
    # A rename is durable only after the folder is synced. Windows cannot open a folder, and need
    # not.
    if os.name == "posix":
        folder = os.open(target.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)


def _check_name(path: Path) -> None:
    try:
        encoded = os.fsencode(path)
    except UnicodeEncodeError:
        encoded = b"\0"
    if b"\0" in encoded:
        raise ValueError(f"expected a name that a file can have, got {path.name!r}")


def _mode(path: Path) -> int | None:
    """Return the mode of a file that is to be replaced; None if there is no such file."""
    try:
        status = os.stat(path)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise ValueError(_PROBLEMS[errno.ELOOP]) from error
        raise
    _check_kind(status, "written")
    return stat.S_IMODE(status.st_mode)


def _check_kind(status: os.stat_result, done: str) -> None:
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is not None:
        raise ValueError(f"cannot be {done}: it is a {kind}")
