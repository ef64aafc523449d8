"""Linear scans in a compiled step, by a C++ kernel (kernels/linear_scan/op.py)."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

from lincoln_fn.compiler.kernels.cpp_kernel import are_called_for
from lincoln_fn.compiler.kernels.linear_scan import op

lincoln = torch.ops.lincoln_fn


def rewrite(graph: GraphModule) -> None:
    """Replace the operation by the kernel, for tensors that it supports."""
    for node in graph.graph.find_nodes(op="call_function", target=lincoln.linear_scan.default):
        b: Any = node.args[1]  # Any: torch's type for an argument is a union
        if are_called_for(b.meta["val"]):
            node.target = by_kernel
    graph.recompile()


def by_kernel(a: Tensor, b: Tensor, first: Tensor, chunk_size: int, reverse: bool) -> Tensor:
    """Compute what the operation does, as fastpath/linear_scan.py documents it."""
    batch, length, features = *b.shape[:2], math.prod(b.shape[2:])
    factors, added = (x.reshape(batch, length, features).contiguous() for x in (a, b))
    start = first.reshape(batch, features).contiguous()
    return op.linear_scan(factors, added, start, reverse).view(b.shape)
