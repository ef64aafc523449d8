"""What the processor has, as far as it decides which library makes a product."""

from __future__ import annotations

import torch


def is_amd_with(vectors: str) -> bool:
    """Return whether the processor is AMD's with such vectors, and torch has oneDNN to use them.

    Args:
        vectors: torch's name for them, such as "avx512_f".

    Returns:
        False, too, for a torch that cannot say.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # type: ignore[no-untyped-call]  # torch's
        return False
    processor = torch.cpu.get_capabilities()
    return str(processor.get("cpu_name")).startswith("AMD") and bool(processor.get(vectors))
