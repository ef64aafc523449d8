"""How torch's threads share the cores. Not pure: threads belong to the whole process."""

from __future__ import annotations

import ctypes
import math
import os
import time
from contextlib import suppress
from pathlib import Path
from threading import Event, Lock, Thread
from typing import Final

import torch

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
        """Look at the cores, if it is time."""
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
