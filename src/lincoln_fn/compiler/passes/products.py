"""Matrix products in a compiled step, each computed in the way that takes the least time.

Small ones in float32 have a C++ kernel: the call of torch's product takes longer than they do.
small_product.cpp keeps tiles of sums in registers. A product of up to 2**19 multiply-adds takes 0.2
to 1.0 of MKL's time, on a Xeon. Without the kernel, the step of gpt-pico took 1.43 of the time, on
a Zen 5.

For others fastpath/product.py chooses, as for eager steps: oneDNN, or (b^T a^T)^T if b has few
columns. ATen computes the rest.

`torch.set_float32_matmul_precision("medium")` allows bfloat16, in which oneDNN computes on a
processor with AMX. AMD processors, from Zen 4 on, have vectors of bfloat16, which oneDNN uses only
if the factors are bfloat16 already. So the factors of a large product are cast there: with the
casts, it takes a half to nine tenths of the time, on a Zen 4.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.cpp_kernel import Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.inductor.settings import lanes
from lincoln_fn.compiler.passes.rewriting import by_rules, materialize, mm_by_onednn, tensors_of
from lincoln_fn.fastpath import is_amd_with, is_narrow, onednn_is_faster, sums_by_onednn
from lincoln_fn.runtime import precision

aten = torch.ops.aten

# A product of up to so many multiplications is computed before a second thread has woken up.
_SMALL_PRODUCT = 2**21
# Up to so many elements a tensor is too small to be shared among threads.
_SMALL_TENSOR = 2**16
# The kernel takes less time for up to so many multiply-adds.
_MOST: Final = 2**19
# Up to so many terms are added one after another in float32.
_TERMS: Final = 2**10
# So many vectors a column has to fill if a row fills none.
_HIGH: Final = 4
# With at least so many multiply-adds, and rows and columns, casts take less time than they save.
_LEAST_CAST: Final = 2**24
_SIDE: Final = 64
# A memo: the machine does not change while the process runs.
_CASTS: Final = is_amd_with("avx512_bf16")


def without_gaps(matrix: Tensor) -> Tensor:
    """Copy a matrix, or a batch of them, unless it is row-major or column-major."""
    return matrix if matrix.mT.is_contiguous() else matrix.contiguous()


def is_turned(matrix: Tensor) -> bool:
    """Return whether such a matrix is column-major, and not row-major, too."""
    return not matrix.is_contiguous()


def suits_kernel(a: Tensor, b: Tensor) -> bool:
    """Return whether the kernel is to compute a b, for a (..., n, k) and b (..., k, m)."""
    is_small = 0 < a.numel() * b.shape[-1] <= _MOST and a.shape[-1] <= _TERMS
    return is_small and a.dtype is b.dtype and are_called_for(a)


def by_kernel(a: Tensor, b: Tensor) -> Tensor:
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


def is_small(graph: GraphModule) -> bool:
    """Return whether a step's tensors and products are so small that one thread computes them."""
    values = (node.meta.get("val") for node in graph.graph.nodes)
    return all(
        value.numel() <= _SMALL_TENSOR for value in values if isinstance(value, Tensor)
    ) and all(
        node.meta["val"].numel() * node.args[0].meta["val"].shape[-1] <= _SMALL_PRODUCT
        for target in (aten.mm.default, aten.bmm.default)
        for node in graph.graph.find_nodes(op="call_function", target=target)
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """Compute a b, for a of shape (n, k) and b of shape (k, m)."""
    if _is_cast(a, b):
        return (a.bfloat16() @ b.bfloat16()).float()
    if len(a) == 1:  # b is read once, which takes most of the time: ATen reads it fastest
        return materialize(a @ b)
    if suits_kernel(a, b):
        return by_kernel(a, b)
    if onednn_is_faster(a, b.mT) or sums_by_onednn(a, b):
        return mm_by_onednn(a, b)
    if is_narrow(a, b):
        return materialize(b.mT @ a.mT).mT
    # In memory: otherwise Inductor would have ATen add what is added to the product, and could not
    # fuse that sum with what follows.
    return materialize(a @ b)


def _is_cast(a: Tensor, b: Tensor) -> bool:
    """Return whether a b, of float32, is to be computed in bfloat16 here."""
    if not _CASTS or precision() != "bf16" or a.numel() * b.shape[1] < _LEAST_CAST:
        return False
    is_known = a.dtype is b.dtype is torch.float32 and a.device.type == "cpu"
    return is_known and min(*a.shape, b.shape[1]) >= _SIDE


def _one_with_one(a: Tensor, b: Tensor) -> Tensor:
    """Compute the product of a batch of one row with a batch of one matrix."""
    return product(a[0], b[0])[None]


def _replace(node: Node) -> None:
    node.target = product


def _replace_many(node: Node) -> None:
    a, b = tensors_of(node)
    if a.shape[:2] == (1, 1):
        node.target = _one_with_one
    elif suits_kernel(a, b):
        node.target = by_kernel


rewrite: Final = by_rules({aten.mm.default: _replace, aten.bmm.default: _replace_many})
