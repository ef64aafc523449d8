"""A filter of Linux for the system calls of a process: it makes, signals and limits no others.

The filter is a program for the kernel (seccomp, `man 2 seccomp`): it reads the number of a call and
one of its arguments, and answers whether the call is made or fails.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct

import attrs

# Of <linux/prctl.h>, <linux/seccomp.h> and <linux/bpf_common.h>.
_SET_SECCOMP, _FILTER = 22, 2
_ALLOW, _FAIL = 0x7FFF0000, 0x00050000
_LOAD, _IS, _IS_AT_LEAST, _HAS_BITS, _RETURN = 0x20, 0x15, 0x35, 0x45, 0x06
# Where a call's number, its machine and the low half of its first argument stand; each has 8 bytes.
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16
# Numbers from here on are those of a second numbering on x86_64.
_SECOND_NUMBERING = 0x40000000
_THREAD = 0x10000
# F_SETOWN, F_SETSIG and F_SETOWN_EX: whom a file signals, and how.
_OF_FILES = 8, 10, 15
# FIOSETOWN and SIOCSPGRP, the same; FS_IOC_SETFLAGS and FS_IOC_FSSETXATTR, a file's attributes.
_OF_DEVICES = 0x8901, 0x8902, 0x40046602, 0x40086602, 0x401C5820


@attrs.frozen
class _Calls:
    """The numbers of a machine's calls."""

    machine: int
    clone: int
    fcntl: int
    ioctl: int
    prlimit64: int
    # Those that signal the process of their first argument.
    signal: tuple[int, ...]
    # fork, vfork, execve, execveat, socket, socketpair, ptrace, process_vm_writev, unshare, setns,
    # tkill, rt_sigqueueinfo, rt_tgsigqueueinfo, memfd_create, shmget, msgget, semget, keyctl,
    # add_key, bpf, perf_event_open, userfaultfd
    refused: tuple[int, ...]
    # Of other processes: setpriority, ioprio_set, sched_setparam, sched_setscheduler,
    # sched_setaffinity, sched_setattr, migrate_pages, move_pages, kcmp
    limits: tuple[int, ...]
    # Of files, which Landlock lets be changed anywhere: chmod, chown, utime, setxattr, removexattr
    # in all their forms
    attributes: tuple[int, ...]
    # pidfd_send_signal, io_uring_setup, pidfd_getfd, process_madvise, process_mrelease, fchmodat2,
    # setxattrat, removexattrat, file_setattr
    recent: tuple[int, ...] = (424, 425, 438, 440, 448, 452, 463, 466, 469)
    # The C library makes threads by `clone` where there is no `clone3`.
    clone3: int = 435


_KNOWN = {
    "x86_64": _Calls(
        0xC000003E, 56, 72, 16, 302, (62, 234),
        (57, 58, 59, 322, 41, 53, 101, 311, 272, 308, 200, 129, 297, 319, 29, 68, 64, 250, 248, 321,
         298, 323),
        (141, 251, 142, 144, 203, 314, 256, 279, 312),
        (90, 91, 268, 92, 93, 94, 260, 132, 235, 261, 280, 188, 189, 190, 197, 198, 199),
    ),
    "aarch64": _Calls(
        0xC00000B7, 220, 25, 29, 261, (129, 131),
        (221, 281, 198, 199, 117, 271, 97, 268, 130, 138, 240, 279, 194, 186, 190, 219, 217, 280,
         241, 282),
        (140, 30, 118, 119, 122, 274, 238, 239, 272),
        (52, 53, 55, 54, 88, 5, 6, 7, 14, 15, 16),
    ),
}  # fmt: skip


def refuse_calls(libc: ctypes.CDLL) -> None:
    """Let this process start, signal and limit no process, and reach no socket or other memory."""
    calls = _KNOWN.get(platform.machine())
    if calls is None:
        return
    program = _program(calls, os.getpid())
    code = ctypes.create_string_buffer(program, len(program))
    address = struct.pack("HP", len(program) // 8, ctypes.addressof(code))
    libc.prctl(_SET_SECCOMP, _FILTER, address, 0, 0)


def _program(calls: _Calls, own: int) -> bytes:
    """Write the filter; each step is a code, two jumps (if so, if not) and a number."""
    fail, allow = _FAIL | errno.EPERM, _ALLOW
    steps = [
        (_LOAD, 0, 0, _MACHINE), (_IS, 1, 0, calls.machine), (_RETURN, 0, 0, fail),
        (_LOAD, 0, 0, _NUMBER), (_IS_AT_LEAST, 0, 1, _SECOND_NUMBERING), (_RETURN, 0, 0, fail),
        (_IS, 0, 1, calls.clone3), (_RETURN, 0, 0, _FAIL | errno.ENOSYS),
    ]  # fmt: skip
    for number in (*calls.refused, *calls.limits, *calls.attributes, *calls.recent):
        steps += [(_IS, 0, 1, number), (_RETURN, 0, 0, fail)]
    rules = (
        (calls.clone, 0, _HAS_BITS, (_THREAD,), allow), (calls.prlimit64, 0, _IS, (0, own), allow),
        *((number, 0, _IS, (own,), allow) for number in calls.signal),
        (calls.fcntl, 1, _IS, _OF_FILES, fail), (calls.ioctl, 1, _IS, _OF_DEVICES, fail),
    )  # fmt: skip
    for number, argument, test, values, answer in rules:
        rule = [(_LOAD, 0, 0, _ARGUMENT + 8 * argument)]
        for value in values:
            rule += [(test, 0, 1, value), (_RETURN, 0, 0, answer)]
        rule += [(_RETURN, 0, 0, allow if answer == fail else fail)]
        steps += [(_IS, 0, len(rule), number), *rule]
    return b"".join(struct.pack("HBBI", *step) for step in (*steps, (_RETURN, 0, 0, allow)))
