"""A process for one peer: it takes steps on command and answers with seconds and losses.

It talks in lines of JSON. The first that it writes is {"absent": reason}, or what it is and how
long its set-up took; then it reads {"steps": k} and answers {"seconds": ..., "losses": [...]}, or
reads {"seconds": s} and answers how many steps it took in about so long.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib
import json
import os
import signal
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, TextIO

# Read by libraries as they are imported, so they are set before.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "BLIS_NUM_THREADS",
)

# Read by glibc as a process starts: what lincoln_fn.keep_freed_memory tells it.
KEEP_FREED_MEMORY = {
    "MALLOC_TOP_PAD_": str(2**30),
    "MALLOC_MMAP_MAX_": "0",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1",
}

PR_SET_PDEATHSIG = 1  # of <sys/prctl.h>


def hold_to(threads: int, *, to_processors: bool) -> None:
    """Keep this process to a number of threads, and to as many processors, if that is asked."""
    if to_processors and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:threads])
    for name in THREAD_VARIABLES:
        os.environ[name] = str(threads)


def end_with_parent() -> None:
    """Let the kernel end this process with its parent, also while it is stopped."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)


def environment(**variables: str) -> dict[str, str]:
    """Make the environment of a process that runs a module of the benchmarks, from any folder."""
    paths = [str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths)), **variables}


def set_up(ways: Any, trial: float = 0.5) -> tuple[Callable[[], float], str, float, float]:
    """Choose the fastest way, and take its first step from the initial weights.

    Args:
        ways: as the peers' modules give them.
        trial: about how many seconds each is tried, if there are several.

    Returns:
        The step, what it is, the first loss, and the seconds that making the way and taking its
        first step took when it was made for the first time.
    """

    def begun(make: Callable[[], Any]) -> tuple[Any, float, float]:
        began = time.perf_counter()
        way = make()
        loss = way.step()
        return way, loss, time.perf_counter() - began

    if len(ways) == 1:
        way, loss, seconds = begun(ways[0])
        return way.step, way.what, loss, seconds
    tried = []
    for make in ways:
        way, _, seconds = begun(make)
        for _ in range(3):
            way.step()
        times = _times(way.step, trial)
        tried.append((statistics.median(times), seconds, make))
        del way
        gc.collect()
    _, seconds, make = min(tried, key=lambda one: one[0])
    way, loss, _ = begun(make)
    return way.step, way.what, loss, seconds


def _times(step: Callable[[], float], seconds: float) -> list[float]:
    times: list[float] = []
    end = time.perf_counter() + seconds
    while len(times) < 5 or time.perf_counter() < end:
        began = time.perf_counter()
        step()
        times.append(time.perf_counter() - began)
    return times


def serve(peer: str, workload: Any, optimizer: str, commands: TextIO, answers: TextIO) -> None:
    """Set the peer up, then take steps on command until there are no more commands."""

    def answer(**values: Any) -> None:
        print(json.dumps(values), file=answers, flush=True)

    from benchmarks.peers import AbsentError

    try:
        module = importlib.import_module(f"benchmarks.peers.{peer}")
        # JAX does this by itself. Where units are dead, a momentum decays to denormal numbers, with
        # which a step of lenet-8 takes three times as long.
        if "torch" in sys.modules:
            sys.modules["torch"].set_flush_denormal(True)
        step, what, loss, seconds = set_up(module.ways(workload, optimizer))
    except (AbsentError, ModuleNotFoundError) as error:
        answer(absent=str(error))
        return
    except Exception as error:  # what a peer's library raises is its own; its row says so
        answer(absent=f"{type(error).__name__}: {error}".splitlines()[0])
        return
    answer(what=what, setup_seconds=seconds, first_loss=loss)
    for line in commands:
        asked = json.loads(line)
        if "seconds" in asked:
            times = _times(step, asked["seconds"])
            answer(seconds=sum(times), steps=len(times))
            continue
        count = asked["steps"]
        losses = [0.0] * count
        gc.collect()
        gc.disable()
        began = time.perf_counter()
        for i in range(count):
            losses[i] = step()
        seconds = time.perf_counter() - began
        gc.enable()
        answer(seconds=seconds, losses=losses)


def main() -> None:
    """Serve one peer over standard input and output."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.worker", description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("workload", help="its name")
    parser.add_argument("optimizer")
    parser.add_argument("threads", type=int)
    parser.add_argument("--anywhere", action="store_true", help="on any of the processors")
    options = parser.parse_args()
    end_with_parent()
    hold_to(options.threads, to_processors=not options.anywhere)
    # What a library prints must not stand between the answers.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    from benchmarks.workloads import WORKLOADS

    serve(options.peer, WORKLOADS[options.workload], options.optimizer, sys.stdin, answers)


if __name__ == "__main__":
    main()
