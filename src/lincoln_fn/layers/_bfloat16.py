"""Products of float32 made in bfloat16, where torch may do so but does not.

`torch.set_float32_matmul_precision("medium")` allows it. Torch hands such products to oneDNN, which
makes them in bfloat16 on a processor with AMX. An AMD one, from Zen 4 on, has vectors of bfloat16
instead, and oneDNN uses these only for factors that are bfloat16 already. There the factors of a
large product are cast; its sums are made in float32, and rounded to bfloat16. With the casts it
takes a half to nine tenths of the time. Measured on a Zen 4.
"""

from __future__ import annotations

from functools import partial
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.layers._processor import is_amd_with

# Multiply-adds from which on, and rows and columns from which on, casts cost less than they save.
_LEAST: Final = 2**24
_SIDE: Final = 64

# Of the machine, and the same as long as the process lives.
HERE: Final = is_amd_with("avx512_bf16")

# What torch is told for oneDNN's products: "bf16" or "tf32", or of a torch before 2.9 "medium" or
# "high", where it may round their factors.
precision: Final = (
    partial(torch._C._get_fp32_precision_getter, "mkldnn", "matmul")
    if hasattr(torch._C, "_get_fp32_precision_getter")
    else torch.get_float32_matmul_precision
)


def is_medium() -> bool:
    """Tell whether torch may round factors to bfloat16, as it is set now."""
    return precision() in ("bf16", "medium")


def is_allowed() -> bool:
    """Tell whether products are to be made in bfloat16 here, as torch is set now."""
    return HERE and is_medium()


def may_round() -> bool:
    """Tell whether torch may round what it makes products of, as it is set now."""
    return precision() in ("bf16", "medium", "tf32", "high")


def suits(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product is to be made in bfloat16 here.

    Args:
        a: of shape (..., k).
        b: of shape (k, m).

    Returns:
        True for a large product of float32, where the processor is such and torch allows it.

    Example:
        >>> suits(torch.ones(2, 3), torch.ones(3, 4))
        False
    """
    return is_large(a, b) and a.dtype is b.dtype is torch.float32 and is_allowed()


def is_large(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product is worth a way of its own in bfloat16 here.

    Args:
        a: of shape (..., k).
        b: of shape (k, m).

    Returns:
        True for a large one, where the processor is such.

    Example:
        >>> is_large(torch.ones(2, 3), torch.ones(3, 4))
        False
    """
    if not HERE or a.numel() * b.shape[1] < _LEAST:
        return False
    return min(*b.shape, a.numel() // a.shape[-1]) >= _SIDE and a.device.type == "cpu"


def mm(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b of factors cast to bfloat16.

    Args:
        a: of shape (..., k).
        b: of shape (k, m).

    Returns:
        The product, in bfloat16.

    Example:
        >>> mm(torch.tensor([[1.0, 2.0]]), torch.tensor([[3.0], [4.0]]))
        tensor([[11.]], dtype=torch.bfloat16)
    """
    return a.bfloat16() @ b.bfloat16()
