"""What the processor can do, as far as it decides which way a product is made."""

from __future__ import annotations

import torch


def is_amd_with(vectors: str) -> bool:
    """Tell whether the processor is AMD's, with certain vectors, and torch has oneDNN to use them.

    Args:
        vectors: torch's name for them, such as "avx512_f".

    Returns:
        False, too, for a torch that cannot tell.
    """
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # type: ignore[no-untyped-call]  # torch's
        return False
    processor = torch.cpu.get_capabilities()
    return str(processor.get("cpu_name")).startswith("AMD") and bool(processor.get(vectors))
