"""The processor that code is compiled for, and its vectors, as Inductor knows them."""

from __future__ import annotations

import hashlib
import os
from typing import Any, Final

import torch

# Inductor takes the processor's vectors from torch. To test them itself takes seven seconds.
VECTORS: Final = {"cpp.vec_isa_ok": True}


def lanes() -> int:
    """Count the float32 numbers in one of the processor's vectors; 0 if Inductor knows none."""
    # Imported here, because Inductor takes longer than all the rest of the library.
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
