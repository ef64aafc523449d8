"""Which products of float32 a compiled step may compute in bfloat16, as torch is set now.

`torch.set_float32_matmul_precision("medium")` allows it. Torch then hands such products to oneDNN,
which computes them in bfloat16 on a processor with AMX. An AMD processor, from Zen 4 on, has
vectors of bfloat16 instead, and oneDNN uses these only for factors that are bfloat16 already. There
the factors of a large product are cast. With the casts it takes a half to nine tenths of the time.
Measured on a Zen 4.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor

from lincoln_fn.fastpath.processor import is_amd_with

# Multiply-adds from which on, and rows and columns from which on, the casts cost less than they
# save.
_LEAST: Final = 2**24
_SIDE: Final = 64

# Of the machine, and the same as long as the process runs.
HERE: Final = is_amd_with("avx512_bf16")


# Any: torch writes no types for it.
_MKLDNN: Final[Any] = torch.backends.mkldnn


def precision() -> str:
    """Return how exact oneDNN's products have to be: "bf16" or "tf32" if it may round factors."""
    return str(_MKLDNN.matmul.fp32_precision)


def may_round() -> bool:
    """Return whether torch may round the factors of a product."""
    return precision() in ("bf16", "tf32")


def is_faster(a: Tensor, b: Tensor) -> bool:
    """Return whether a b, of float32, is to be computed in bfloat16 here."""
    if not HERE or precision() != "bf16" or a.numel() * b.shape[1] < _LEAST:
        return False
    is_known = a.dtype is b.dtype is torch.float32 and a.device.type == "cpu"
    return is_known and min(*b.shape, a.numel() // a.shape[-1]) >= _SIDE


def mm(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b of factors cast to bfloat16, in bfloat16."""
    return a.bfloat16() @ b.bfloat16()
