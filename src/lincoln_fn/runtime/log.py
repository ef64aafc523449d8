"""Messages about a wait that has lasted two seconds, and about steps that have become slow."""

from __future__ import annotations

import logging
import math
import os
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

# Python's logging, not print or a warning: it goes to standard error and never into a pipeline,
# notebooks show it, it fails no test, and logging.getLogger("lincoln_fn") silences it.
LOG: Final = logging.getLogger("lincoln_fn")
SECONDS: Final = 2.0
# A step is slow if it takes so many times as long as the fastest with as many examples.
_SLOW: Final = 10.0


@contextmanager
def log_if_slow(what: str, *, seconds: float = SECONDS) -> Iterator[None]:
    """Log what a block of code does, if it takes a long time."""
    timer = Timer(seconds, LOG.warning, ("lincoln_fn: %s", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def watch_pace(cores: int) -> Callable[[tuple[int | None, float]], None]:
    """Log once if steps have been slow for two seconds, while other processes need the cores."""
    pace = _pace(cores)
    next(pace)
    return pace.send


def _pace(cores: int) -> Generator[None, tuple[int | None, float], None]:
    fastest: dict[int | None, float] = {}
    slow = 0.0
    # Until more processes are ready to run than there are cores.
    while slow < SECONDS or not hasattr(os, "getloadavg") or os.getloadavg()[0] <= cores + 0.5:
        examples, seconds = yield
        best = fastest[examples] = min(seconds, fastest.get(examples, math.inf))
        slow = slow + seconds if seconds > _SLOW * best else 0.0
    LOG.warning(
        "lincoln_fn: a step takes %.3g ms, and the fastest took %.3g ms. Other processes use the "
        "cores too, and torch's threads wait for each other. Call "
        "torch.set_num_threads(1), or start Python with OMP_WAIT_POLICY=passive",
        1e3 * seconds,
        1e3 * best,
    )
    while True:
        yield
