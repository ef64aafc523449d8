"""What the process has: memory, torch's forward mode, a shell, exact products, threads. Not pure.

On Linux the C library returns large blocks of memory to the system as soon as they are free. The
next training step then needs new memory, page by page.
"""

from __future__ import annotations

import ctypes
import math
import mmap
import os
import sys
import time
import warnings
from contextlib import suppress
from functools import cache
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Any, Final

import torch

from lincoln_fn.core import is_forward_mode

# Any: torch writes no types for it.
_MKLDNN: Final[Any] = torch.backends.mkldnn

# Parameters of mallopt, as glibc's malloc.h numbers them.
_TOP_PAD: Final = -2
_MMAP_MAX: Final = -4
# glibc's default number of mappings.
_USUAL_MAPPINGS: Final = 65536
# Of <sys/mman.h>, in Linux.
_MADV_HUGEPAGE: Final = 14


@cache
def load_forward_mode() -> None:
    """Load torch's forward mode, which warns of a function of its own that it has deprecated."""
    if not is_forward_mode():  # within it, it is loaded
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*torch.jit.script")
            torch.func.jvp(torch.neg, (torch.zeros(1),), (torch.zeros(1),))


def keep_freed_memory(bytes: int = 2**30) -> bool:  # noqa: A002  # the unit says what it is
    """Let this process keep freed memory for its next use, instead of returning it at once.

    A step whose tensors are large takes less time: a quarter less in an eager convolutional
    network, a seventh less in a compiled transformer. The memory kept is in large pages, where
    Linux grants them on request. Some systems take long to find these, so read large data before
    the call. Other code in the process keeps its memory too. No result changes.

    Args:
        bytes: how much freed memory to keep; below 2**31.

    Returns:
        Whether the C library supports this. glibc does, which nearly every Linux has, unless the
        process may not use this much memory. Other libraries may keep freed memory by default.

    Example:
        >>> kept = keep_freed_memory()
    """
    # Before a setting is changed.
    if not isinstance(bytes, int) or not 0 <= bytes < 2**31:
        problem = f"expected a whole number, from 0 to {2**31 - 1} bytes, got {bytes!r}"
        raise ValueError(f"keep_freed_memory: {problem}; write 2**30 for a gibibyte")
    libc = ctypes.pythonapi
    mallopt = getattr(libc, "mallopt", None)
    # No block gets its own mapping, which would be returned to the system when it is freed.
    if mallopt is None or not mallopt(_MMAP_MAX, 0):
        return False
    address = ctypes.c_void_p
    allocate = ctypes.PYFUNCTYPE(address, ctypes.c_size_t)(("malloc", libc))
    advise = ctypes.PYFUNCTYPE(ctypes.c_int, address, ctypes.c_size_t, ctypes.c_int)
    free = ctypes.PYFUNCTYPE(None, address)(("free", libc))
    begin = allocate(bytes)
    if not begin:
        mallopt(_MMAP_MAX, _USUAL_MAPPINGS)
        return False
    # For memory allocated from now on. A system without large pages refuses, which does no harm.
    whole = -(-begin // mmap.PAGESIZE) * mmap.PAGESIZE
    advise(("madvise", libc))(whole, max(bytes - mmap.PAGESIZE, 0), _MADV_HUGEPAGE)
    kept = mallopt(_TOP_PAD, bytes)
    free(begin)
    return bool(kept)


def precision() -> str:
    """Return how exact oneDNN's products have to be: "bf16" or "tf32" if it may round factors."""
    return str(_MKLDNN.matmul.fp32_precision)


def current_shell() -> Any:  # Any: an InteractiveShell, whose package is not a dependency
    """Return the shell of IPython, or None outside of it."""
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return None if get_ipython is None else get_ipython()


def in_notebook() -> bool:
    """Return whether the code runs in the kernel of a notebook."""
    shell = current_shell()
    return shell is not None and "IPKernelApp" in shell.config


# Variables of the environment by which a user decides how many threads there are.
_NUMBER: Final = ("OMP_NUM_THREADS", "MKL_NUM_THREADS")
# Variables by which a user decides how threads wait.
_POLICY: Final = ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT")
# Seconds between two looks at the cores while waiting threads spin, and while they sleep.
_INTERVAL: Final = 0.2
_SLEEP: Final = 1.0
# Threads sleep after so many looks in a row that found other processes.
_LOOKS: Final = 2
# The part of the time for which this process's threads, taken together, lacked a core. It is below
# .2 for a process that is alone, and above .4 beside a process that computes.
_LACKED: Final = 0.3
_TASKS: Final = Path("/proc/self/task")


def count_cores() -> int:
    """Count the cores that this process may use, by its affinity and its control group's quota."""
    affinity = getattr(os, "sched_getaffinity", None)
    cores = (os.cpu_count() or 1) if affinity is None else len(affinity(0))
    return max(1, min([cores, *map(int, _quotas(Path("/sys/fs/cgroup")))]))


def _quotas(root: Path) -> list[float]:
    """Read the quotas in cores of a control group, of version 2 or 1."""
    quotas = []
    for file in (root / "cpu.max", root / "cpu" / "cpu.cfs_quota_us"):
        try:
            words = file.read_text().split()
            if len(words) == 1:
                words.append(file.with_name("cpu.cfs_period_us").read_text())
            quotas.append(float(words[0]) / float(words[1]))
        except (OSError, ValueError):  # there is none, or it is "max"
            continue
    return [quota for quota in quotas if quota > 0]


def share_cores(processes: int) -> None:
    """Set the number of torch's threads so that some processes together have one for each core.

    A number that the user has set by OMP_NUM_THREADS stays, and so does a smaller one.
    """
    share = max(1, count_cores() // processes)
    if not any(name in os.environ for name in _NUMBER) and torch.get_num_threads() > share:
        torch.set_num_threads(share)


def adapt_waiting() -> None:
    """Let torch's threads sleep while they wait, as long as other processes need the cores.

    A thread that has done its part of an operation waits for the others. It spins: it answers at
    once, but keeps a core busy. If another process has the core of a thread that is waited for, all
    wait until the system gives it back, many times longer than the operation takes. So beside other
    processes a waiting thread sleeps instead, after a short spin. Results are the same.

    Each step, each compiled function and `evaluate` call this, and a loop of your own may. A call
    takes a tenth of a microsecond. Five times a second it asks the system how long the process's
    threads lacked a core, which takes 15 microseconds a thread.

    It does nothing where torch has one thread, where the environment sets OMP_WAIT_POLICY or
    GOMP_SPINCOUNT, and where torch's threads are not those of Linux and libgomp.

    Example:
        >>> adapt_waiting()
    """
    _WAITING.adapt(time.monotonic())


class _Waiting:
    """How torch's threads wait for each other, now.

    libgomp lets a waiting thread sleep after a short spin if the process has more of libgomp's
    threads than cores. A second team, whose two threads do nothing, is one thread too many.
    """

    def __init__(self) -> None:
        self._next = 0.0 if _can_adapt() else math.inf
        self._last = 0.0
        self._lacked = 0.0
        self._looks = 0
        self._team: Event | None = None
        self._lock = Lock()

    def adapt(self, now: float) -> None:
        if now < self._next or not self._lock.acquire(blocking=False):
            return
        try:
            lacked = _seconds_without_core()
            part = (lacked - self._lacked) / (now - self._last)
            self._looks = self._looks + 1 if part > _LACKED and self._last else 0
            if self._looks == _LOOKS and torch.get_num_threads() > 1:
                self._team = _start_team()
            elif not self._looks and self._team is not None:
                self._team.set()
                self._team = None
            self._next = now + (_INTERVAL if self._team is None else _SLEEP)
            self._last, self._lacked = now, lacked
        finally:
            self._lock.release()


def _can_adapt() -> bool:
    is_told = any(name in os.environ for name in _POLICY)
    return not is_told and _TASKS.exists() and hasattr(ctypes.CDLL(None), "GOMP_parallel")


def _seconds_without_core() -> float:
    """Return how long this process's threads, taken together, were ready and had no core."""
    nanoseconds = 0
    for task in _TASKS.iterdir():
        with suppress(OSError):  # the thread has ended
            nanoseconds += int((task / "schedstat").read_text().split()[1])
    return 1e-9 * nanoseconds


def _start_team() -> Event:
    """Start a second team of two of libgomp's threads, which ends when the event is set."""
    end, library = Event(), ctypes.CDLL(None)  # what the process has loaded, libgomp with torch

    def wait() -> None:
        # The team calls a function of no effect.
        library.GOMP_parallel(library.omp_get_level, None, 2, 0)
        end.wait()

    Thread(target=wait, name="lincoln_fn's second team", daemon=True).start()
    return end


_WAITING: Final = _Waiting()
