"""Linear scans in a traced step: one operation for each, however long the sequence is.

Traced, the formula is some operations for each step of a chunk and for each chunk, and Inductor
takes the longer to compile them, the longer the sequence is. Eager steps compute the formula.

The operation exists only in this process. A compiled step may have a C++ kernel for it
(`compiler/passes/sequences.py`). An exported step has the formula's operations.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Final

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from lincoln_fn.fastpath.twin import Twin, unless_transformed
from lincoln_fn.layers import gated_linear_recurrence, linear_attention, linear_scan, selective_scan
from lincoln_fn.layers.linear_scan import scan
from lincoln_fn.runtime import operation, runs_here


@unless_transformed(scan)
def _scan(a: Tensor, b: Tensor, first: Tensor, *, chunk_size: int, reverse: bool = False) -> Tensor:
    """Compute what `scan` does, in a traced step by one operation."""
    if isinstance(b, FakeTensor) and runs_here(b):
        return in_graph(a, b, first, chunk_size, reverse)
    return scan(a, b, first, chunk_size=chunk_size, reverse=reverse)


def _run(a: Tensor, b: Tensor, first: Tensor, chunk_size: int, reverse: bool) -> Tensor:
    return scan(a, b, first, chunk_size=chunk_size, reverse=reverse).contiguous()


in_graph: Final[Callable[..., Tensor]] = operation(
    "linear_scan(Tensor a, Tensor b, Tensor first, int chunk_size, bool reverse) -> Tensor",
    _run,
    any_strides=True,
)

TWINS: Final = tuple(
    Twin(layer, partial(layer.forward, scan=_scan), partial(layer.backward, scan=_scan))
    for layer in (gated_linear_recurrence, linear_attention, linear_scan, selective_scan)
)
"""The layers whose state is a linear scan."""
