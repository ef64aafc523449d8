"""How many threads share the loops of a graph that is being compiled."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch


def with_threads(number: int) -> AbstractContextManager[None]:
    """Compile for so many threads; torch's own number, which belongs to the process, stays."""
    # Imported here, because it takes as long as the rest of the library.
    from torch._inductor import config

    patched: AbstractContextManager[None] = config.patch({"cpp.threads": number})
    return patched


def threads_for(count: int) -> int:
    """Return how many threads can share examples, or heads, that are independent."""
    from torch._inductor import config

    of_graph: int = config.cpp.threads  # below 1 if none is being compiled
    return min(of_graph if of_graph > 0 else torch.get_num_threads(), count)
