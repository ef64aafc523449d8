"""Small products of numbers in bfloat16, in a compiled step, as a loop around torch's own kernel.

`in_dtype` makes such ones, as of a layer of ten classes. Torch leaves them to oneDNN, whose call
takes longer than the product does: with those of ten classes made by the loop, in
bfloat16_small.cpp, the step of a 784-500-10 network with 128 examples takes a fourteenth less time,
and that of five layers of 64 features or fewer half of it. Measured on a Zen 4.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiled.bfloat16_products import HEADERS, is_here
from lincoln_fn.compiled.loops import loop, threads_for
from lincoln_fn.layers._product import lies_by_columns

# Multiply-adds up to which the call takes longer than they do.
_MOST: Final = 2**20
# Columns that a thread takes at a time.
_BLOCK: Final = 32


def makes(a: Tensor, b: Tensor) -> bool:
    """Tell whether `product` is to make a product.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for one in bfloat16 of up to 2**20 multiply-adds, where the processor is such.
    """
    is_asked_for = a.dtype is b.dtype is torch.bfloat16
    return is_asked_for and 0 < len(a) * b.numel() <= _MOST and is_here()


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b.

    Args:
        a: of shape (n, k), in bfloat16.
        b: of shape (k, m), in bfloat16.

    Returns:
        The product, in bfloat16, with sums in float32.
    """
    a_is_turned, b_is_turned = lies_by_columns(a), lies_by_columns(b) and len(b) % 2 == 0
    given = a.mT if a_is_turned else a, b.mT if b_is_turned else b
    return _product(*given, a_is_turned, b_is_turned)


def _like(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> tuple[Tensor]:
    return (a.new_empty(a.shape[a_is_turned], b.shape[not b_is_turned]),)


def _sizes(a: Tensor, b: Tensor, a_is_turned: bool, b_is_turned: bool) -> dict[str, int]:
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


_product: Final[Callable[[Tensor, Tensor, bool, bool], Tensor]] = loop(
    "bfloat16_small(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned) -> Tensor",
    _like,
    _sizes,
    HEADERS,
)
