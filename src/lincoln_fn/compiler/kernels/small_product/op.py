"""Small products in float32, in a compiled step, by a C++ kernel.

Torch's own call takes longer than such a product. small_product.cpp keeps tiles of sums in
registers. A product of up to 2**19 multiply-adds takes 0.2 to 1.0 of MKL's time, on a Xeon. Without
the kernel, the step of gpt-pico took 1.43 of the time, on a Zen 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor

from lincoln_fn.compiler.kernels.common.factors import as_they_lie, product_like
from lincoln_fn.compiler.kernels.cpp_kernel import are_called_for, cpp_kernel

# Multiply-adds up to which the kernel takes less time.
_MOST: Final = 2**19
# Terms of a sum up to which they are added one after another in float32.
_TERMS: Final = 2**10


def supports(a: Tensor, b: Tensor) -> bool:
    """Tell whether `product` is to compute a b, for a (..., n, k) and b (..., k, m)."""
    is_small = 0 < a.numel() * b.shape[-1] <= _MOST and a.shape[-1] <= _TERMS
    return is_small and a.dtype is b.dtype is torch.float32 and are_called_for(a)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b; a factor with gaps is copied first."""
    return _product(*as_they_lie(a, b))


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


_product: Final[Callable[[Tensor, Tensor, bool, bool], Tensor]] = cpp_kernel(
    "small_product(Tensor a, Tensor b, bool a_is_turned, bool b_is_turned) -> Tensor",
    __file__,
    _like,
    _sizes,
)
