"""How exact torch's products are, by its setting for the whole process."""

from __future__ import annotations

from typing import Any, Final

import torch

# Any: torch writes no types for it.
_MKLDNN: Final[Any] = torch.backends.mkldnn


def precision() -> str:
    """Return how exact oneDNN's products have to be: "bf16" or "tf32" if it may round factors."""
    return str(_MKLDNN.matmul.fp32_precision)
