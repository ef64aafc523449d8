"""Which products of float32 a compiled step may compute in bfloat16, by torch's setting.

`torch.set_float32_matmul_precision("medium")` allows it. Torch then computes such products by
oneDNN, in bfloat16 on a processor with AMX. AMD processors, from Zen 4 on, have vectors of bfloat16
instead, and oneDNN uses them only if the factors are bfloat16 already. So the factors of a large
product are cast there. With the casts, the product takes a half to nine tenths of the time, on a
Zen 4.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor

from lincoln_fn.runtime import precision

# With at least so many multiply-adds, and rows and columns, the casts take less time than they
# save.
_LEAST: Final = 2**24
_SIDE: Final = 64


def is_amd_with(vectors: str) -> bool:
    """Return whether an AMD has vectors such as "avx512_f", and torch has oneDNN to use them."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.cpu, "get_capabilities"):  # type: ignore[no-untyped-call]  # torch's
        return False
    processor = torch.cpu.get_capabilities()
    return str(processor.get("cpu_name")).startswith("AMD") and bool(processor.get(vectors))


# A memo: the machine does not change while the process runs.
HERE: Final = is_amd_with("avx512_bf16")


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
