"""Column-major activations, in a compiled step where they take less time to compute.

Where a layer has more features than there are examples, y^T = W^T x^T takes less time than y = x W,
by MKL a tenth, by a loop of this library's a twentieth; and in bfloat16 the loop makes y^T. So
such a product is written that way, and y is column-major in memory: each feature's numbers side by
side. In a small step, whose products are loops, y lies so where it has fewer features than a vector
has lanes: of examples there are enough to fill it. What is made of y element by element, up to the
gradient that comes back to it, is then written with its tensors transposed, so that Inductor's
loops go through memory in order. Numbers and shapes stay as they are.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import torch
from torch import Tensor
from torch.fx import GraphModule, Node

from lincoln_fn.compiled import (
    bfloat16_products,
    float16_products,
    row_products,
    small_products,
)
from lincoln_fn.compiled.nodes import rounded_from
from lincoln_fn.compiled.products import is_light, is_thin
from lincoln_fn.compiled.ways import (
    Way,
    float16_by_columns,
    looped_by_columns,
    row_by_columns,
    small_by_columns,
    transposed,
)
from lincoln_fn.fastpath import product

aten = torch.ops.aten

# How many numbers W has at least, to be worth the trouble, and at most: with one that does not stay
# in the processor's caches, the products take as long either way.
_LEAST: Final = 2**18
_MOST: Final = 2**20


def rewrite(graph: GraphModule, *, small: bool) -> None:
    """Make products, and what is computed of them element by element, column-major.

    Args:
        graph: a traced step, which is changed.
        small: whether the step is small, and makes loops of its products.
    """
    made = graph.graph.find_nodes(op="call_function", target=aten.mm.default)
    factors = {node: _factors(node) for node in made}
    ways = {node: way for node in made if (way := _way(*map(_value, factors[node]), small=small))}
    shapes = {node.meta["val"].shape for node in ways}
    for node in graph.graph.nodes:
        if node.op != "call_function" or _shape(node) not in shapes:
            continue
        if node in ways:
            node.target, node.args = ways[node], factors[node]
        elif node.target is aten.mm.default:
            node.target = _loop(*map(_value, node.args), small=small) or node.target
        elif torch.Tag.pointwise in getattr(node.target, "tags", ()):
            node.target = _turned(node.target)
    graph.recompile()


def _value(node: Any) -> Tensor:  # Any: torch's type for a node's arguments is a long union
    value: Tensor = node.meta["val"]
    return value


def _shape(node: Node) -> object:
    return getattr(node.meta.get("val"), "shape", None)


def _factors(product: Node) -> tuple[Any, Any]:  # Any: as above
    """Give what a product is made of: of a weight that is rounded for it, the weight itself."""
    x, weight = product.args
    return x, rounded_from(weight) or weight


def _way(x: Tensor, weight: Tensor, *, small: bool) -> Way | None:
    """Choose how a product is made column-major; None where it stays row-major."""
    if small:
        is_narrow = 1 < weight.shape[1] < product.VECTOR <= len(x)
        return _loop(x, weight, small=True) if is_narrow and len(weight) > 1 else None
    if weight.shape[1] <= len(x) or not _LEAST <= weight.numel() <= _MOST:
        return None
    if bfloat16_products.makes(x, weight):
        return bfloat16_products.product
    if float16_products.makes(x, weight):
        return float16_by_columns
    if row_products.makes(x, weight):
        return row_by_columns
    return None if product.HERE or x.dtype is not torch.float32 else transposed


def _loop(a: Tensor, b: Tensor, *, small: bool) -> Way | None:
    """Choose the loop that makes a column-major product; None where it stays row-major."""
    if is_light(a, b) if small else is_thin(a, b):
        return looped_by_columns
    return small_by_columns if small_products.makes(a, b) else None


def _turned(operation: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Make the same operation of transposed tensors, whose result is transposed back."""

    def turned(*args: Any, **options: Any) -> Tensor:  # Any: those of the operation
        return operation(*map(_turn, args), **options).mT

    return turned


def _turn(given: Any) -> Any:  # Any: a tensor, or an argument of another kind
    if not isinstance(given, Tensor) or given.ndim == 0:
        return given
    return given.mT if given.ndim > 1 else given.unsqueeze(-1)
