"""Products in a compiled step whose sums run along the rows of both factors, by a loop.

Such is y = x W^T of a large W, which is column-major: W^T's numbers, n_in for each output, lie in a
row. MKL copies all of W into the order that it multiplies in; row_product.cpp reads the lines of
one factor where they lie, and copies the other, smaller one. It takes four fifths of MKL's time for
784 numbers, 500 outputs and 128 examples, and a twentieth less for 4096, 4096 and 256. Measured on
a Xeon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from torch import Tensor

from lincoln_fn.compiled.loops import are_called_for, lanes, loop, threads_for
from lincoln_fn.fastpath.product import goes_to_mkl, onednn_is_faster

# Rows and columns, and multiply-adds, from which on the loop takes less time.
_SIDE: Final = 32
_LEAST: Final = 2**19
# Terms from which on it does so although it turns what it makes.
_TURNED_FROM: Final = 2**8
# Vectors that a tile has, and the share of them that is to be filled.
_VECTORS: Final = 2
_FILLED: Final = 0.75


def makes(a: Tensor, b: Tensor) -> bool:
    """Tell whether `product` is to make a product.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for a large one in float32 that MKL would make, if a is row-major and b column-major.
    """
    if not goes_to_mkl(a, b):
        return False
    (n, k), m = a.shape, b.shape[1]
    side, least = min(n, m), _TURNED_FROM if n < m else 1
    if side < _SIDE or n * k * m < _LEAST or k < least:
        return False
    if not (a.is_contiguous() and b.mT.is_contiguous() and are_called_for(a)):
        return False
    width = _VECTORS * lanes()
    return side >= _FILLED * -(-side // width) * width and not onednn_is_faster(a, b.mT)


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b.

    Args:
        a: of shape (n, k), as `makes` says.
        b: of shape (k, m), likewise.

    Returns:
        The product.
    """
    return _made(b.mT, a, True) if len(a) < b.shape[1] else _made(a, b.mT, False)


def _like(a: Tensor, b: Tensor, is_turned: bool) -> tuple[Tensor]:
    return (a.new_empty(*((len(b), len(a)) if is_turned else (len(a), len(b)))),)


def _sizes(a: Tensor, b: Tensor, is_turned: bool) -> dict[str, int]:
    return {
        "rows": len(a),
        "terms": a.shape[1],
        "columns": len(b),
        "b_is_turned": True,
        "is_turned": is_turned,
        "threads": threads_for(len(a)),
    }


_made: Final[Callable[[Tensor, Tensor, bool], Tensor]] = loop(
    "row_product(Tensor a, Tensor b, bool is_turned) -> Tensor",
    _like,
    _sizes,
    ("parts.h", "tiles.h"),
)
