"""What a call waits for, said once it has waited for two seconds."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from threading import Timer
from typing import Final

# Python's logging, not print or a warning: it goes to standard error and never into a pipeline,
# notebooks show it, no test fails by it, and logging.getLogger("lincoln_fn") silences it.
LOG: Final = logging.getLogger("lincoln_fn")
SECONDS: Final = 2.0


@contextmanager
def waiting(what: str, *, seconds: float = SECONDS) -> Iterator[None]:
    """Log what a block of code does, if it takes long.

    Args:
        what: such as "compiling the step".
        seconds: after which it is logged; a block that ends before says nothing.

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
