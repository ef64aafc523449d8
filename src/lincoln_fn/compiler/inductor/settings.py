"""What Inductor compiles for: a version of torch, the processor, and a number of threads.

Every torch that pyproject.toml admits compiles steps. Three things need a version of Inductor with
which they have been tried: its C++ code calls this library's kernels, its libraries are found on
disk, and a state is updated within the graph. An older Inductor may update W before a product that
still reads W.
"""

from __future__ import annotations

import hashlib
import os
from contextlib import AbstractContextManager
from typing import Any, Final

import torch

IS_KNOWN: Final = torch.__version__ >= "2.13"
# Inductor takes the processor's vectors from torch. To test them itself takes seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}


def lanes() -> int:
    """Count the float32 numbers in one of the processor's vectors; 0 if Inductor knows none."""
    # Imported here, because Inductor takes longer than all the rest of the library; so below.
    from torch._inductor import config
    from torch._inductor.cpu_vec_isa import pick_vec_isa

    with config.patch(VECTORS):
        isa = pick_vec_isa()
        return isa.nelements() if isa else 0


def processor() -> str:
    """Return a hash of the processor and of the vectors that ATEN_CPU_CAPABILITY allows."""
    # Which older torches lack. Any: truths, numbers and names.
    capabilities: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    properties = (
        torch.backends.cpu.get_cpu_capability(),
        os.environ.get("ATEN_CPU_CAPABILITY"),  # Inductor reads it again at each call
        sorted(capabilities.items()),
    )
    return hashlib.sha256(repr(properties).encode()).hexdigest()[:16]


def compiler_flags() -> dict[str, str]:
    """Return the setting of Inductor that adds our flags for the C++ compiler."""
    # Inductor's cache key does not contain the processor. Two processors that share a folder, or
    # one that is used with and without vectors, would get each other's code: code that does not
    # compile there, reads beyond its tensors, or ends the process. So the processor's number is
    # among the flags, which are part of the key.
    flags = (
        "off"  # a product and a sum stay two operations; one operation would round once
        # Nor may the C++ compiler assume that products of integers stay within 64 bits.
        " -fwrapv"
        f" -DLINCOLN_FN_PROCESSOR=0x{processor()}"
    )
    return {"cpp.enable_floating_point_contract_flag": flags}


def with_threads(number: int) -> AbstractContextManager[None]:
    """Compile for so many threads; torch's own number, which belongs to the process, stays."""
    from torch._inductor import config

    patched: AbstractContextManager[None] = config.patch({"cpp.threads": number})
    return patched


def threads_for(count: int) -> int:
    """Return how many threads can share examples, or heads, that are independent."""
    from torch._inductor import config

    of_graph: int = config.cpp.threads  # below 1 if none is being compiled
    return min(of_graph if of_graph > 0 else torch.get_num_threads(), count)
