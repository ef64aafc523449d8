"""Properties of the processor that decide which library computes a product."""

from __future__ import annotations

import torch


def is_amd_with(vectors: str) -> bool:
    """Return whether an AMD has vectors such as "avx512_f", and torch has oneDNN to use them."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # type: ignore[no-untyped-call]  # torch's
        return False
    processor = torch.cpu.get_capabilities()
    return str(processor.get("cpu_name")).startswith("AMD") and bool(processor.get(vectors))
