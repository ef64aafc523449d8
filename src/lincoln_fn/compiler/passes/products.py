"""Matrix products in a compiled step, each computed in the way that takes the least time.

Small ones in float32 have a C++ kernel (small_product.py). For others fastpath/product.py
chooses, as for eager steps: oneDNN, or (b^T a^T)^T if b has few columns. ATen computes the rest.
"""

from __future__ import annotations

from typing import Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiler.passes import small_product
from lincoln_fn.compiler.passes.rewriting import by_rules, materialize, tensors_of
from lincoln_fn.compiler.passes.torch_kernels import mm_by_onednn
from lincoln_fn.fastpath import bfloat16, is_narrow, onednn_is_faster, sums_by_onednn

aten = torch.ops.aten

# A product of up to so many multiplications is computed before a second thread has woken up.
_SMALL_PRODUCT = 2**21
# Up to so many elements a tensor is too small to be shared among threads.
_SMALL_TENSOR = 2**16


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
    if bfloat16.is_faster(a, b):
        return bfloat16.mm(a, b).float()
    if len(a) == 1:  # b is read once, which takes most of the time: ATen reads it fastest
        return materialize(a @ b)
    if small_product.supports(a, b):
        return small_product.product(a, b)
    if onednn_is_faster(a, b.mT) or sums_by_onednn(a, b):
        return mm_by_onednn(a, b)
    if is_narrow(a, b):
        return materialize(b.mT @ a.mT).mT
    # In memory: otherwise Inductor would have ATen add what is added to the product, and could not
    # fuse that sum with what follows.
    return materialize(a @ b)


def _one_with_one(a: Tensor, b: Tensor) -> Tensor:
    """Compute the product of a batch of one row with a batch of one matrix."""
    return product(a[0], b[0])[None]


def _many_with_one(a: Tensor, b: Tensor) -> Tensor:
    """Compute the products of many a (batch, n, k) with one b, as one product of all their rows."""
    return product(a.flatten(0, 1), b[0]).view(*a.shape[:2], b.shape[2])


def _replace(node: Node) -> None:
    node.target = product


def _replace_many(node: Node) -> None:
    a, b = tensors_of(node)
    if a.shape[:2] == (1, 1):
        node.target = _one_with_one
    elif small_product.supports(a, b):
        node.target = small_product.product
    elif b.stride(0) == 0 < len(a) and a.is_contiguous():
        node.target = _many_with_one


rewrite: Final = by_rules({aten.mm.default: _replace, aten.bmm.default: _replace_many})
