"""A filter of Linux for the system calls of a process: it makes no others, and no connections.

The filter is a program for the kernel (seccomp, `man 2 seccomp`): it reads the number of a call and
its first argument, and answers whether the call is made or fails.
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
# Where a call's number, its machine and the low half of its first argument stand.
_NUMBER, _MACHINE, _ARGUMENT = 0, 4, 16
# Numbers from here on are those of a second numbering on x86_64.
_SECOND_NUMBERING = 0x40000000
_THREAD = 0x10000


@attrs.frozen
class _Calls:
    """The numbers of a machine's calls."""

    machine: int
    clone: int
    # Those that signal the process of their first argument.
    signal: tuple[int, ...]
    # fork, vfork, execve, execveat, socket, ptrace, process_vm_writev, unshare, setns, tkill,
    # pidfd_send_signal, rt_sigqueueinfo, rt_tgsigqueueinfo, io_uring_setup, memfd_create, shmget,
    # msgget, semget, keyctl, add_key, bpf, perf_event_open, userfaultfd
    refused: tuple[int, ...]
    # The C library makes threads by `clone` where there is no `clone3`.
    clone3: int = 435


_KNOWN = {
    "x86_64": _Calls(
        0xC000003E, 56, (62, 234),
        (57, 58, 59, 322, 41, 101, 311, 272, 308, 200, 424, 129, 297, 425, 319, 29, 68, 64, 250,
         248, 321, 298, 323),
    ),
    "aarch64": _Calls(
        0xC00000B7, 220, (129, 131),
        (221, 281, 198, 117, 271, 97, 268, 130, 424, 138, 240, 425, 279, 194, 186, 190, 219, 217,
         280, 241, 282),
    ),
}  # fmt: skip


def refuse_calls(libc: ctypes.CDLL) -> None:
    """Let this process start no process and no program, and reach no socket and no other memory."""
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
    for number in calls.refused:
        steps += [(_IS, 0, 1, number), (_RETURN, 0, 0, fail)]
    for number, test, wanted in (
        (calls.clone, _HAS_BITS, _THREAD), *((number, _IS, own) for number in calls.signal)
    ):  # fmt: skip
        steps += [
            (_IS, 0, 4, number), (_LOAD, 0, 0, _ARGUMENT), (test, 1, 0, wanted),
            (_RETURN, 0, 0, fail), (_RETURN, 0, 0, allow),
        ]  # fmt: skip
    return b"".join(struct.pack("HBBI", *step) for step in (*steps, (_RETURN, 0, 0, allow)))
