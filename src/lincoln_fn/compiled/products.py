"""Matrix products in a compiled step, each in the way that takes the least time.

Inductor leaves every product to MKL, by a call of its own. Ten kinds have a better way, of the
same numbers up to rounding:

- large ones, by oneDNN where that is faster, as fastpath/product.py says;
- elsewhere those of rows with rows, such as y of a large W, by a loop, as row_products.py says;
- and in bfloat16 where torch allows it, as fastpath/bfloat16.py says, or with more digits in
  float16, as float16_products.py says;
- small ones, and many of small matrices, by a loop of this library's;
- narrow ones, such as the logits of ten classes, by the transposed product, as that file says too;
- those of many matrices with one, such as of sequences with a dense layer's weight, by one product;
- tiny ones in a small step: written as the loops that they are, which Inductor makes one with the
  loops around them;
- thin ones, sums of a few terms such as the gradient that comes back from ten classes: written as
  loops too, which become one with the activation's derivative;
- flat ones, of a few lines such as the update of ten classes' weight: likewise, beside products in
  bfloat16;
- those that something is added to, such as the momentum: they stay apart from the sum, of which
  Inductor would make one call, with a tensor for what is added and another for the result.
"""

from __future__ import annotations

from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled import float16_products, row_products, small_products
from lincoln_fn.compiled.kernels import mm_by_onednn
from lincoln_fn.compiled.ways import (
    Way,
    apart,
    in_bfloat16,
    looped,
    many_with_one,
    small_by_columns,
    transposed,
)
from lincoln_fn.fastpath import bfloat16
from lincoln_fn.fastpath.product import VECTOR, onednn_is_faster

aten = torch.ops.aten

# Multiply-adds up to which Inductor's loops take less time than a loop of this library's, and than
# a call; and the dtypes that they sum up in.
_TINY: Final = 2**13
_LOOPED: Final = 2**16
_DTYPES: Final = (torch.float32, torch.float64)
# Multiply-adds from which on a thin product is worth a loop, and how many numbers its second factor
# may have to stay in a core's nearest cache, for it is read again for each row.
_THIN_FROM: Final = 2**17
_NEAREST: Final = 2**13
# Multiply-adds up to which a flat product is worth a loop.
_FLAT: Final = 2**20
# Elements up to which a tensor is too small to be shared among threads.
_ONE_THREAD: Final = 2**13


def is_small(graph: GraphModule) -> bool:
    """Tell whether a step's tensors are so small that a second thread would not help.

    Args:
        graph: a traced step.

    Returns:
        True if none has more than 8192 elements.
    """
    made = (node.meta.get("val") for node in graph.graph.nodes)
    return all(value.numel() <= _ONE_THREAD for value in made if isinstance(value, Tensor))


def rewrite(graph: GraphModule, *, small: bool) -> None:
    """Put the better way in the place of every product that has one.

    Args:
        graph: a traced step, which is changed.
        small: whether the step is small.
    """
    for node in graph.graph.find_nodes(op="call_function", target=aten.mm.default):
        is_added_to = any(user.target is aten.add.Tensor for user in node.users)
        rest = apart if is_added_to else node.target
        node.target = better_way(node, small=small) or rest
    for node in graph.graph.find_nodes(op="call_function", target=aten.addmm.default):
        way = better_way(node, small=small)
        if way is not None:
            c, a, b = node.args
            with graph.graph.inserting_before(node):
                made = graph.graph.call_function(way, (a, b))
            node.target, node.args = _added, (c, made)
    for node in graph.graph.find_nodes(op="call_function", target=aten.bmm.default):
        second: Any = node.args[1]  # Any: torch's type for an argument is a union
        if not small and second.meta["val"].stride(0) == 0:
            node.target = many_with_one
    graph.recompile()


def rewrite_many(graph: GraphModule) -> None:
    """Put loops in the place of products of many small matrices.

    Args:
        graph: a traced step whose attention has been rewritten, for that is found by such products;
            it is changed.
    """
    for node in graph.graph.find_nodes(op="call_function", target=aten.bmm.default):
        factors: Any = node.args  # Any: torch's type for an argument is a union
        if small_products.makes(*(factor.meta["val"] for factor in factors)):
            node.target = small_products.product
    graph.recompile()


def better_way(node: Node, *, small: bool) -> Way | None:
    """Choose how a product is to be computed.

    Args:
        node: a b, or c + alpha a b, in a traced step.
        small: whether the step is small.

    Returns:
        A function of a and b; None where ATen's own call is best, which adds to c too.
    """
    factors: Any = node.args[-2:]  # Any: torch's type for a node's arguments is a long union
    a, b = (factor.meta["val"] for factor in factors)
    if small and is_light(a, b):
        return looped
    if bfloat16.is_faster(a, b):
        return in_bfloat16
    if node.target is aten.addmm.default and _is_flat(a, b):
        return looped
    is_product, is_narrow = node.target is aten.mm.default, b.shape[1] < VECTOR <= len(a)
    if is_product and is_thin(a, b):
        return looped
    if small_products.makes(a, b) and (is_product or a.dtype is torch.float32):
        return small_by_columns if is_narrow else small_products.product
    if float16_products.makes(a, b):
        return float16_products.product
    if row_products.makes(a, b):
        return row_products.product
    if is_product and onednn_is_faster(a, b.mT):
        return mm_by_onednn
    return transposed if is_narrow else None


def is_light(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product has so few terms that Inductor's loops are best for it.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for one of floats of up to 65536 multiply-adds; of up to 8192, where there is a loop
        of this library's for it.

    Example:
        >>> is_light(torch.ones(128, 10), torch.ones(10, 1))
        True
    """
    most = _TINY if small_products.makes(a, b) else _LOOPED
    return a.dtype in _DTYPES and a.numel() * b.shape[1] <= most


def is_thin(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product is a sum of a few terms, and better made by a loop.

    Args:
        a: of shape (n, k).
        b: of shape (k, m).

    Returns:
        True for fewer terms than a vector holds, if b has no gaps and fits a core's nearest cache.

    Example:
        >>> is_thin(torch.ones(128, 10), torch.ones(10, 500))
        True
    """
    (terms, m), multiply_adds = b.shape, len(a) * b.numel()
    is_near = b.numel() <= _NEAREST and 1 in b.stride()
    is_short = terms < VECTOR <= m and a.dtype in _DTYPES
    return is_short and is_near and multiply_adds >= _THIN_FROM


def _is_flat(a: Tensor, b: Tensor) -> bool:
    """Tell whether a product to be added has few lines, as the update of ten classes' weight has.

    Only if torch is allowed to make it in bfloat16: it leaves it to oneDNN then, whose call takes
    longer than a loop.
    """
    has_few = len(a) < VECTOR <= b.shape[1] and a.numel() * b.shape[1] <= _FLAT
    return has_few and a.dtype in _DTYPES and bfloat16.is_allowed()


def _added(c: Tensor, made: Tensor, *, beta: float = 1, alpha: float = 1) -> Tensor:
    return c * beta + made * alpha
