"""Small products in a compiled step, by loops of this library's.

Torch's own calls take longer than such products do. In float32, small_product_float32.cpp keeps
tiles of sums in registers and makes a product of up to 2**19 multiply-adds in 0.2 to 1.0 of MKL's
time, measured on a Xeon. In bfloat16, which `in_dtype` asks for, small_product_bfloat16.cpp calls
torch's own kernel without oneDNN around it: the step of five layers of 64 features or fewer takes
half of its time so, measured on a Zen 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiled.bfloat16_products import HEADERS, is_here
from lincoln_fn.compiled.factors import as_they_lie, product_like
from lincoln_fn.compiled.loops import are_called_for, loop, threads_for

# Multiply-adds up to which the loops take less time.
_MOST: Final = {torch.float32: 2**19, torch.bfloat16: 2**20}
# Terms of a sum up to which they are added one after another in float32.
_TERMS: Final = 2**10
# Columns that a thread takes at a time in bfloat16.
_BLOCK: Final = 32


def makes(a: Tensor, b: Tensor) -> bool:
    """Tell whether `product` is to make a product.

    Args:
        a: of shape (n, k), or in float32 (..., n, k).
        b: of shape (k, m), or (..., k, m).

    Returns:
        True for a small one: in float32 one of at most 1024 terms, in bfloat16 one of matrices, if
        the processor is such.
    """
    multiply_adds = a.numel() * b.shape[-1]
    if not (a.dtype is b.dtype and 0 < multiply_adds <= _MOST.get(a.dtype, 0)):
        return False
    if a.dtype is torch.bfloat16:
        return a.ndim == 2 and is_here()
    return a.shape[-1] <= _TERMS and are_called_for(a)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b.

    Args:
        a: of shape (..., n, k), as `makes` says; one with gaps is copied first.
        b: of shape (..., k, m), likewise.

    Returns:
        The product, with sums in float32.
    """
    if a.dtype is torch.float32:
        return _in_float32(*as_they_lie(a, b))
    return _in_bfloat16(*as_they_lie(a, b.contiguous() if len(b) % 2 else b))


def _like(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> tuple[Tensor]:
    return (product_like(a, b, a_is_turned, b_is_turned),)


def _sizes(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> dict[str, int]:
    made = product_like(a, b, a_is_turned, b_is_turned)
    rows, columns = made.shape[-2:]
    return {
        "batch": math.prod(made.shape[:-2]),
        "rows": rows,
        "terms": b.shape[-1 if b_is_turned else -2],
        "columns": columns,
        "a_is_turned": a_is_turned,
        "b_is_turned": b_is_turned,
    }


def _sizes_in_bfloat16(
    a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool
) -> dict[str, int]:
    n_out = b.shape[not b_is_turned]
    return {
        "rows": a.shape[a_is_turned],
        "n_in": b.shape[b_is_turned],
        "n_out": n_out,
        "a_is_turned": a_is_turned,
        "b_is_turned": b_is_turned,
        "is_rounded": True,
        "threads": threads_for(-(-n_out // _BLOCK)),
    }


_in_float32: Final[Callable[[Tensor, Tensor, bool, bool], Tensor]] = loop(
    "small_product_float32(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned) -> Tensor",
    _like,
    _sizes,
)
_in_bfloat16: Final[Callable[[Tensor, Tensor, bool, bool], Tensor]] = loop(
    "small_product_bfloat16(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned) -> Tensor",
    _like,
    _sizes_in_bfloat16,
    HEADERS,
)
