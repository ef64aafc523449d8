"""Linear scans in a compiled step, h_t = a_t h_(t-1) + b_t, by a C++ kernel.

It computes one step after the other, and reads and writes each number once. Each thread computes
its own examples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final

import torch
from torch import Tensor
from torch.fx import Node

from lincoln_fn.compiler.inductor.settings import threads_for
from lincoln_fn.compiler.kernels.cpp_kernel import Plan, are_called_for, cpp_kernel
from lincoln_fn.compiler.passes.rewriting import by_rules, tensors_of
from lincoln_fn.fastpath import linear_scan


def _plan(a: Tensor, b: Tensor, first: Tensor, reverse: bool) -> Plan:
    batch, length, features = b.shape
    sizes = {"batch": batch, "length": length, "features": features, "reverse": reverse}
    return (torch.empty_like(b),), {**sizes, "threads": threads_for(batch)}


# a and b are (batch, length, features), and first (batch, features).
_steps: Final[Callable[[Tensor, Tensor, Tensor, bool], Tensor]] = cpp_kernel(
    "linear_scan_steps(Tensor a, Tensor b, Tensor first, bool reverse) -> Tensor", _plan
)


def by_kernel(a: Tensor, b: Tensor, first: Tensor, chunk_size: int, reverse: bool) -> Tensor:
    """Compute what the operation does, as fastpath/linear_scan.py documents it."""
    batch, length, features = *b.shape[:2], math.prod(b.shape[2:])
    factors, added = (x.reshape(batch, length, features).contiguous() for x in (a, b))
    start = first.reshape(batch, features).contiguous()
    return _steps(factors, added, start, reverse).view(b.shape)


def _replace(node: Node) -> None:
    if are_called_for(tensors_of(node)[1]):
        node.target = by_kernel


rewrite: Final = by_rules({linear_scan.in_graph: _replace})
