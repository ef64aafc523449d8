"""Updates in a compiled step that follow element by element from one product.

An optimizer updates W by dW = x^T g, and also the momentum, or the two means of Adam. If the step
may update these in place, product_update.cpp does so with each tile of dW as soon as the tile's
sums are complete. dW itself is neither written to memory nor read. The leaves of a tile are fetched
while its sums are computed. This is faster if the sums have few terms, or if the leaves are larger
than the processor's caches. Without it, the step of mlp took 1.50 of the time with AdamW, and that
of mlp-wide 1.49, on a Zen 5; on a Xeon about 1.05.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from torch import Tensor
from torch.fx import has_side_effect

from lincoln_fn.compiler.inductor.threads import threads_for
from lincoln_fn.compiler.kernels.common.factors import is_turned, without_gaps
from lincoln_fn.compiler.kernels.cpp_kernel import (
    POINTERS,
    Plan,
    are_called_for,
    cpp_kernel,
)
from lincoln_fn.fastpath import goes_to_mkl

# With fewer multiply-adds, or fewer rows or columns, a product and a loop take less time.
_LEAST: Final = 2**20
_SIDE: Final = 64
# The kernel takes less time if a sum has at most so many terms, or each leaf so many numbers.
_FEW: Final = 2**8
_LARGE: Final = 2**22
# Up to so many terms are added one after another in float32.
_MOST: Final = 2**10


def supports(a: Tensor, b: Tensor) -> bool:
    """Return whether the kernel is to update leaves by a product."""
    if not goes_to_mkl(a, b):
        return False
    (rows, terms), columns = a.shape, b.shape[1]
    is_large = min(rows, columns) >= _SIDE and rows * terms * columns >= _LEAST
    most = _MOST if rows * columns >= _LARGE else _FEW
    return is_large and terms <= most and are_called_for(a)


@has_side_effect
def change(
    a: Tensor,
    b: Tensor,
    is_finite: Tensor,
    leaves: list[Tensor],
    numbers: list[Tensor],
    formulas: str,
) -> None:
    """Update leaves in place by a b, by formulas in C++, if the step is finite."""
    _changed(without_gaps(a), without_gaps(b), is_finite, leaves, numbers, formulas)


def _plan(a: Tensor, b: Tensor, is_finite: Tensor, leaves: list[Tensor], *rest: object) -> Plan:
    (rows, terms), columns = a.shape, b.shape[1]
    return (), {
        "rows": rows, "terms": terms, "columns": columns, "leaves": len(leaves),
        "a_is_turned": is_turned(a), "b_is_turned": is_turned(b), "threads": threads_for(rows),
    }  # fmt: skip


def _kernel(*given: Any) -> str:  # Any: tensors and others
    """Write the kernel's function, which takes the leaves and the numbers one by one."""
    *_, leaves, numbers, formulas = given
    pointers = [POINTERS[number.dtype] for number in numbers]
    taken = ["const float* a", "const float* b", "const bool* is_finite"]
    taken += [f"float* leaf{i}" for i in range(len(leaves))]
    taken += [f"const {pointer} of{i}" for i, pointer in enumerate(pointers)]
    lines = [
        f'extern "C" void kernel({", ".join(taken)}) {{',
        "if (!*is_finite) return;",
        *(f"const Vec number{i}{{float(*of{i})}};" for i in range(len(numbers))),
        f"float* const leaves[] = {{{', '.join(f'leaf{i}' for i in range(len(leaves)))}}};",
        "change_all(a, b, leaves, [&](const Vec& product, Vec (&leaf)[LEAVES]) {",
        formulas,
        "});\n}",
    ]
    return "\n".join(lines)


_changed: Final[Callable[..., None]] = cpp_kernel(
    "product_update(Tensor a, Tensor b, Tensor is_finite, Tensor(a!)[] leaves, Tensor[] numbers, "
    "str formulas) -> ()",
    __file__,
    _plan,
    _kernel,
)
