"""Large products in float16, in a compiled step, where torch may round their factors.

`torch.set_float32_matmul_precision("medium")` lets torch round them to bfloat16's 8 bits. A Xeon
with vectors of float16, but without AMX, multiplies and adds twice as many numbers of float16 at a
time as of float32, and half as many of bfloat16. So

    y = a b,               product
    W becomes W + a b,     update, of a donated W

are made by float16.h. float16_rounding.h keeps 11 bits of each number, and scales lines and columns
by powers of two, for float16 has a small range; no more than 48 terms are added in it before
float32 takes over. Of random numbers the error is less than half of bfloat16's; of equal ones it is
as large. A product takes 0.6 to 0.9 of the time that MKL takes in float32, and the
step of a 784-500-10 network with 128 examples four fifths. Measured on a Xeon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.fx import has_side_effect

from lincoln_fn.compiled.factors import as_they_lie, product_like
from lincoln_fn.compiled.loops import lanes, loop, threads_for
from lincoln_fn.compiled.versions import IS_KNOWN
from lincoln_fn.fastpath import bfloat16

# Multiply-adds, and rows, terms and columns, from which on the loops take less time.
_LEAST: Final = 2**20
_SIDE: Final = 32
# Lanes of the vectors that the loops are written for.
_LANES: Final = 16
# Columns that a tile has.
_WIDTH: Final = 64
_HEADERS: Final = ("parts.h", "float16_rounding.h", "float16.h")


def makes(a: Tensor, b: Tensor) -> bool:
    """Tell whether `product` is to make a product.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for a large one in float32, where torch may round its factors to bfloat16.
    """
    if not a.dtype is b.dtype is torch.float32 or a.device.type != "cpu" or a.ndim != 2:
        return False
    is_large = min(*a.shape, b.shape[1]) >= _SIDE and a.numel() * b.shape[1] >= _LEAST
    return is_large and bfloat16.is_medium() and is_here()


def adds(weight: Tensor, a: Tensor, b: Tensor) -> bool:
    """Tell whether `update` is to add a product to a weight.

    Args:
        weight: of shape (n, m).
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for a large product, as `makes` says, if the weight lies by rows.
    """
    return makes(a, b) and weight.dtype is torch.float32 and weight.is_contiguous()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b.

    Args:
        a: of shape (n, k), in float32; one with gaps is copied first.
        b: of shape (k, m), likewise.

    Returns:
        The product.
    """
    return _product(*as_they_lie(a, b))


@has_side_effect
def update(weight: Tensor, a: Tensor, b: Tensor, is_finite: Tensor) -> None:
    """Add a b to a weight, in its own memory.

    Args:
        weight: of shape (n, m), in float32, without gaps.
        a: of shape (n, k), as `product` takes it.
        b: of shape (k, m), likewise.
        is_finite: whether the step is finite: if it is not, the weight stays as it is.
    """
    _update(weight, *as_they_lie(a, b), is_finite)


def is_here() -> bool:
    """Tell whether this processor, and torch, are such as the loops are written for.

    Returns:
        True for vectors of float16 without AMX, which oneDNN would use, with torch 2.13 or later.
    """
    if not IS_KNOWN or lanes() != _LANES:
        return False
    processor = torch.cpu.get_capabilities()
    return bool(processor.get("avx512_fp16")) and not processor.get("amx_bf16")


def _like(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> tuple[Tensor]:
    return (product_like(a, b, a_is_turned, b_is_turned),)


def _sizes(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> dict[str, int]:
    rows, columns = product_like(a, b, a_is_turned, b_is_turned).shape
    threads = torch.get_num_threads()
    by_columns = columns > rows and columns >= _WIDTH * threads
    return {
        "rows": rows,
        "terms": b.shape[b_is_turned],
        "columns": columns,
        "a_is_turned": a_is_turned,
        "b_is_turned": b_is_turned,
        "by_columns": by_columns,
        "threads": threads if by_columns else threads_for(rows),
    }


_product: Final[Callable[[Tensor, Tensor, bool, bool], Tensor]] = loop(
    "float16_product(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned) -> Tensor",
    _like,
    _sizes,
    _HEADERS,
)
_update: Final[Callable[[Tensor, Tensor, Tensor, bool, bool, Tensor], None]] = loop(
    "float16_update(Tensor(a!) weight, Tensor a, Tensor b, bool a_is_turned, bool b_is_turned,"
    " Tensor is_finite) -> ()",
    lambda weight, a, b, a_is_turned, b_is_turned, is_finite: (),
    lambda weight, a, b, a_is_turned, b_is_turned, is_finite: _sizes(
        a, b, a_is_turned, b_is_turned
    ),
    _HEADERS,
)
