"""A process that can harm nothing: no network, little memory and time, writes in one folder alone.

Linux itself enforces it: by limits on resources, no capabilities, Landlock (`man 7 landlock`) and a
filter of system calls, which libseccomp makes. Where one of these is missing, an audit hook of
Python still refuses the usual calls; that stops mistakes, but not malice.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
import struct
import sys
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar
from uuid import uuid4

T = TypeVar("T")

# Bytes beyond what the process has already.
MEMORY = 2 << 30
LARGEST_FILE = 16 << 20
# Of <linux/prctl.h>, <linux/capability.h> and <linux/landlock.h>.
_NO_NEW_PRIVILEGES = 38
_CAPABILITIES, _READ_ALL = 0x20080522, 1 << 2
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446
_ASK_VERSION, _PATH_BENEATH = 1, 1
# Writing, removing and making files of each kind; later versions add renaming and truncating.
_WRITES = (1 << 1) | sum(1 << bit for bit in range(4, 13))
_RENAMES, _TRUNCATES, _TCP, _SIGNALS = 1 << 13, 1 << 14, 0b11, 1 << 1

# Of <seccomp.h>. A call fails if its argument differs from a number, or has some bits.
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_DIFFERS, _HAS = 1, 7
# They start programs, reach sockets and other memory, limit and signal other processes, and change
# the modes, owners, times and attributes of files, which Landlock lets be changed anywhere.
_CALLS = """
    fork vfork execve execveat socket socketpair ptrace process_vm_writev unshare setns tkill
    rt_sigqueueinfo rt_tgsigqueueinfo pidfd_send_signal pidfd_getfd memfd_create shmget msgget
    semget keyctl add_key bpf perf_event_open userfaultfd io_uring_setup process_madvise
    process_mrelease setpriority ioprio_set sched_setparam sched_setscheduler sched_setaffinity
    sched_setattr migrate_pages move_pages kcmp chmod fchmod fchmodat chown fchown fchownat lchown
    utime utimes utimensat futimesat setxattr lsetxattr fsetxattr removexattr lremovexattr
    fremovexattr
"""
# fchmodat2, setxattrat, removexattrat and file_setattr, which a libseccomp may not know by name.
_RECENT = (452, 463, 466, 469)
_LOW, _THREAD = 0xFFFFFFFF, 0x10000
# F_SETOWN, F_SETSIG and F_SETOWN_EX: whom a file signals, and how. Then FIOSETOWN and SIOCSPGRP,
# the same of devices; FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR, a file's attributes.
_OF_FILES = 8, 10, 15
_OF_DEVICES = 0x8901, 0x8902, 0x40046602, 0x40086602, 0x401C5820

# What an audit hook refuses, and what it refuses outside of the folder.
_REFUSED = re.compile(
    r"(socket|resource|pty|ftplib|http\.client|urllib|smtplib)\.|subprocess\.|ctypes\.dlopen"
    r"|os\.(system|exec|posix_spawn|spawn|fork|kill)"
)
_CHANGES = re.compile(
    r"os\.(remove|rename|rmdir|mkdir|chmod|chown|link|symlink|truncate|utime|setxattr|removexattr)"
    r"|shutil\.rmtree"
)
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


# Any: of the function.
def in_confinement(function: Callable[..., T], folder: Path, seconds: float, *arguments: Any) -> T:
    """Confine this process for good, and call a function."""
    confine(folder, seconds)
    return function(*arguments)


def confine(folder: Path, seconds: float) -> tuple[str, ...]:
    """Take from this process what it could do harm with, and return what this machine lacks."""
    missing: tuple[str, ...] = ("Landlock", "libseccomp")
    _limit(seconds)
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(_NO_NEW_PRIVILEGES, 1, 0, 0, 0)
        tried = (("Landlock", _restrict_writes(libc, folder)), ("libseccomp", _filter_calls()))
        missing = tuple(name for name, works in tried if not works)
        _drop_capabilities(libc)
    os.chdir(folder)
    sys.addaudithook(_guard(folder.resolve()))
    return missing


def _limit(seconds: float) -> None:
    try:
        import resource
    except ImportError:  # not on this system
        return
    limits = {resource.RLIMIT_CPU: int(seconds) + 1, resource.RLIMIT_FSIZE: LARGEST_FILE}
    with suppress(OSError):
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        limits[resource.RLIMIT_AS] = pages * resource.getpagesize() + MEMORY
    for what, value in {**limits, resource.RLIMIT_CORE: 0}.items():
        with suppress(OSError, ValueError):
            resource.setrlimit(what, (value, value))


def _drop_capabilities(libc: ctypes.CDLL) -> None:
    """Keep of what root may do only to read, so that it raises no limit."""
    header = struct.pack("Ii", _CAPABILITIES, 0)
    held = ctypes.create_string_buffer(24)
    if libc.capget(header, held) == 0:
        effective, permitted, *_ = struct.unpack("6I", held.raw)
        kept = effective & _READ_ALL, permitted & _READ_ALL
        libc.capset(header, struct.pack("6I", *kept, 0, 0, 0, 0))


def _restrict_writes(libc: ctypes.CDLL, folder: Path) -> bool:
    """Let Landlock refuse writes outside of a folder, TCP, and signals to other processes."""
    version = libc.syscall(_CREATE_RULESET, None, 0, _ASK_VERSION)
    if version < 1:
        return False
    writes = _WRITES | (_RENAMES if version >= 2 else 0) | (_TRUNCATES if version >= 3 else 0)
    rules = struct.pack("QQQ", writes, _TCP, _SIGNALS)
    size = 24 if version >= 6 else 16 if version >= 4 else 8
    ruleset = libc.syscall(_CREATE_RULESET, rules, size, 0)
    for path in (folder, Path(os.devnull)):
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
        allowed = writes if path.is_dir() else writes & ((1 << 1) | _TRUNCATES)
        rule = struct.pack("=Qi", allowed, handle)
        libc.syscall(_ADD_RULE, ruleset, _PATH_BENEATH, rule, 0)
        os.close(handle)
    works = int(libc.syscall(_RESTRICT_SELF, ruleset, 0)) == 0
    os.close(ruleset)
    return works


def _filter_calls() -> bool:
    """Let this process start, signal and limit no process, and reach no socket or other memory."""
    try:
        lib = ctypes.CDLL("libseccomp.so.2")
    except OSError:
        return False
    lib.seccomp_init.restype = ctypes.c_void_p
    made = ctypes.c_void_p(lib.seccomp_init(_ALLOW))
    rules = [lib.seccomp_rule_add_array(made, *rule) == 0 for rule in _rules(lib)]
    return all(rules) and lib.seccomp_load(made) == 0


def _rules(lib: ctypes.CDLL) -> Iterator[tuple[object, ...]]:
    """List what fails: the answer, the call, and what its arguments are."""
    fails = ctypes.c_uint32(_FAIL | errno.EPERM)

    def number(name: str) -> int:
        return int(lib.seccomp_syscall_resolve_name(name.encode()))

    def when(argument: int, test: int, *values: int) -> tuple[int, bytes]:
        return 1, struct.pack("@IiQQ", argument, test, *values, *(0,) * (2 - len(values)))

    for call in (*map(number, _CALLS.split()), *_RECENT):
        yield fails, call, 0, None
    # The C library makes threads by `clone` where there is no `clone3`.
    yield ctypes.c_uint32(_FAIL | errno.ENOSYS), number("clone3"), 0, None
    yield fails, number("clone"), *when(0, _HAS, _THREAD, 0)
    yield fails, number("prlimit64"), *when(0, _DIFFERS, 0)
    for name in ("kill", "tgkill"):
        yield fails, number(name), *when(0, _DIFFERS, os.getpid())
    for name, options in (("fcntl", _OF_FILES), ("ioctl", _OF_DEVICES)):
        for option in options:
            yield fails, number(name), *when(1, _HAS, _LOW, option)


def _guard(folder: Path) -> Callable[[str, tuple[object, ...]], None]:
    def hook(event: str, arguments: tuple[object, ...]) -> None:
        if _REFUSED.match(event):
            raise PermissionError(f"{event} is not allowed here")
        opens = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if not opens and not _CHANGES.match(event):
            return
        for path in arguments[: 1 if opens else 2]:
            if isinstance(path, (str, bytes, os.PathLike)):  # and no file that is open already
                found = Path(os.fsdecode(path)).resolve()
                if not found.is_relative_to(folder) and str(found) != os.devnull:
                    problem = f"{event} is not allowed outside of {folder}: {found}"
                    raise PermissionError(problem)

    return hook


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
