"""A process that can harm nothing: no network, little memory and time, writes in one folder alone.

Linux itself enforces it: by limits on resources, a network of its own, no capabilities, Landlock
and a filter of system calls. Where one of these is missing, an audit hook of Python refuses the
same; that stops mistakes, but not malice.
"""

from __future__ import annotations

import ctypes
import os
import struct
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

from lincoln_fn.grading.system_calls import refuse_calls

T = TypeVar("T")

# Bytes beyond what the process has already.
MEMORY = 2 << 30
LARGEST_FILE = 16 << 20
# Of <linux/sched.h>, <linux/prctl.h>, <linux/capability.h> and <linux/landlock.h>.
_NEW_USER, _NEW_NETWORK = 0x10000000, 0x40000000
_NO_NEW_PRIVILEGES = 38
_CAPABILITIES, _READ_ALL = 0x20080522, 1 << 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
# Writing, removing and making files of each kind; later versions add renaming and truncating.
_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_RENAMES, _TRUNCATES, _TCP, _SIGNALS = 1 << 13, 1 << 14, 0b11, 1 << 1

_REFUSED = (
    "socket.", "subprocess.", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "os.fork",
    "os.kill", "resource.", "pty.", "ctypes.dlopen", "ftplib.", "http.client.", "urllib.",
    "smtplib.",
)  # fmt: skip
_CHANGES = (
    "os.remove", "os.rename", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.link",
    "os.symlink", "os.truncate", "os.utime", "os.setxattr", "os.removexattr",
)  # fmt: skip
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# Any: of the function.
def in_confinement(function: Callable[..., T], folder: Path, seconds: float, *arguments: Any) -> T:
    """Confine this process for good, and call a function."""
    confine(folder, seconds)
    return function(*arguments)


def confine(folder: Path, seconds: float) -> None:
    """Take from this process what it could do harm with; it may write in one folder."""
    _limit(seconds)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        _leave_network(libc)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        with suppress(OSError):
            _restrict_writes(libc, folder)
        _drop_capabilities(libc)
        refuse_calls(libc)
    os.chdir(folder)
    sys.addaudithook(_guard(folder.resolve()))


def _limit(seconds: float) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    with suppress(OSError, ValueError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        most = pages * resource.getpagesize() + MEMORY
        resource.setrlimit(resource.RLIMIT_AS, (most, most))
    cpu = int(seconds) + 1
    for what, value in (
        (resource.RLIMIT_CPU, cpu), (resource.RLIMIT_FSIZE, LARGEST_FILE), (resource.RLIMIT_CORE, 0)
    ):  # fmt: skip
        with suppress(OSError, ValueError):
            resource.setrlimit(what, (value, value))


def _leave_network(libc: ctypes.CDLL) -> None:
    """Move into a network of its own, in which there is nothing."""
    if libc.unshare(_NEW_NETWORK) != 0:
        libc.unshare(_NEW_USER | _NEW_NETWORK)


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep of what root may do only to read, so that it raises no limit."""
    header = struct.pack("Ii", _CAPABILITIES, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        effective, permitted, *_ = struct.unpack("6I", held.raw)
        kept = effective & _READ_ALL, permitted & _READ_ALL
        libc.capset(header, struct.pack("6I", *kept, 0, 0, 0, 0))


def _restrict_writes(libc: ctypes.CDLL, folder: Path) -> None:
    """Let Landlock refuse writes outside of a folder, TCP, and signals to other processes."""
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return
    writes = _WRITES | (_RENAMES if version >= 2 else 0) | (_TRUNCATES if version >= 3 else 0)
    rules = struct.pack("QQQ", writes, _TCP, _SIGNALS)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = _call(libc, _CREATE_RULESET, rules, size, 0)
    for path in (folder, Path(os.devnull)):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = writes if path.is_dir() else writes & ((1 << 1) | _TRUNCATES)
        rule = struct.pack("=Qi", allowed, handle)
        _call(libc, _ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        os.close(handle)
    _call(libc, _RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(libc: ctypes.CDLL, number: int, *arguments: object) -> int:
    result = int(libc.syscall(number, *arguments))
    if result < 0:
        raise OSError(ctypes.get_errno(), "landlock")
    return result


def _guard(folder: Path) -> Callable[[str, tuple[object, ...]], None]:
    """Make the audit hook."""

    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if event.startswith(_REFUSED):
            raise PermissionError(f"{event} is not allowed here")
        if event == "open":
            path, _, flags = arguments
            if isinstance(flags, int) and flags & _WRITING:
                _check_inside(event, path, folder)
        elif event.startswith(_CHANGES):
            for path in arguments[: 2 if event in ("os.rename", "os.link", "os.symlink") else 1]:
                _check_inside(event, path, folder)

    return hook


def _check_inside(event: str, path: object, folder: Path) -> None:
    if isinstance(path, int) or path is None:  # a file that is open already
        return
    found = Path(os.fsdecode(path)).resolve()  # type: ignore[arg-type]  # as Python gives it
    if not found.is_relative_to(folder) and str(found) != os.devnull:
        raise PermissionError(f"{event} is not allowed outside of {folder}: {found}")
