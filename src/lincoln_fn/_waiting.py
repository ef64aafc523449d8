"""Messages about a wait, shown once it has lasted two seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

# Python's logging, not print or a warning: it goes to standard error and never into a pipeline,
# notebooks show it, it fails no test, and logging.getLogger("lincoln_fn") silences it.
LOG: Final = logging.getLogger("lincoln_fn")
SECONDS: Final = 2.0


@contextmanager
def waiting(what: str, *, seconds: float = SECONDS) -> Iterator[None]:
    """Log what a block of code does, if it takes a long time.

    Args:
        what: such as "compiling the step".
        seconds: the wait before it is logged; a block that ends earlier logs nothing.

    Yields:
        Nothing.

    Example:
        >>> with waiting("adding two numbers"):
        ...     print(1 + 1)
        2
    """
    timer = Timer(seconds, LOG.warning, ("lincoln_fn: %s", what))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()
