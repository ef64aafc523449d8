"""Small products in float32, in a compiled step, by a C++ kernel.

The call of torch's product takes longer than a small product itself. small_product.cpp keeps tiles
of sums in registers. A product of up to 2**19 multiply-adds takes 0.2 to 1.0 of MKL's time,
on a Xeon. Without the kernel, the step of gpt-pico took 1.43 of the time, on a Zen 5.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

from torch import Tensor

from lincoln_fn.compiler.inductor.vectors import lanes
from lincoln_fn.compiler.kernels.cpp_kernel import Plan, are_called_for, cpp_kernel

# The kernel takes less time for up to so many multiply-adds.
_MOST: Final = 2**19
# Up to so many terms are added one after another in float32.
_TERMS: Final = 2**10
# So many vectors a column has to fill if a row fills none.
_HIGH: Final = 4


def without_gaps(matrix: Tensor) -> Tensor:
    """Copy a matrix, or a batch of them, unless it is row-major or column-major."""
    return matrix if matrix.mT.is_contiguous() else matrix.contiguous()


def is_turned(matrix: Tensor) -> bool:
    """Return whether such a matrix is column-major, and not row-major, too."""
    return not matrix.is_contiguous()


def supports(a: Tensor, b: Tensor) -> bool:
    """Return whether `product` is to compute a b, for a (..., n, k) and b (..., k, m)."""
    is_small = 0 < a.numel() * b.shape[-1] <= _MOST and a.shape[-1] <= _TERMS
    return is_small and a.dtype is b.dtype and are_called_for(a)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b; column-major if it has many rows, each too short for a vector."""
    return _product(without_gaps(a), without_gaps(b))


def _plan(a: Tensor, b: Tensor) -> Plan:
    # Many short rows are computed as columns, by (b^T a^T)^T; not those of x^T g: W is row-major.
    is_high = b.shape[-1] < lanes() and a.shape[-2] >= _HIGH * lanes()
    swapped = is_high and not is_turned(a)
    if swapped:
        a, b = b.mT, a.mT
    batch, rows, terms, columns = a.shape[:-2], *a.shape[-2:], b.shape[-1]
    y = a.new_empty(*batch, rows, columns)
    return (y.mT if swapped else y,), {
        "batch": math.prod(batch), "rows": rows, "terms": terms, "columns": columns,
        "a_is_turned": is_turned(a), "b_is_turned": is_turned(b), "swapped": swapped,
    }  # fmt: skip


_product: Final[Callable[[Tensor, Tensor], Tensor]] = cpp_kernel(
    "small_product(Tensor a, Tensor b) -> Tensor", _plan
)
