"""Updates in a compiled step that add one product to a leaf of the state.

    W + alpha a b             as a dense layer descends in one sum,
    W - rate float32(a b)     as an optimizer does, of a gradient that was made in bfloat16,

and the same by W^T, of a W that is column-major.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch.fx import Node

from lincoln_fn.compiled.nodes import kind_of, shows, source_of

aten = torch.ops.aten


class Sum(NamedTuple):
    """leaf + alpha a b, or (leaf^T + alpha a b)^T if it is turned; `node` makes it, or a b."""

    node: Node
    a: Node
    b: Node
    alpha: float
    is_turned: bool


def sum_for(leaf: Node, new: Any, leaves: list[Node]) -> Sum | None:  # Any: what a graph may hold
    """Find the product that is all that a step adds to a leaf.

    Args:
        leaf: of the state.
        new: what follows it in the next state.
        leaves: all of the state's, which may be written over before the product is made.

    Returns:
        The sum; None if the step makes another update, or a factor shows one of the leaves.
    """
    if not isinstance(new, Node) or kind_of(new) != kind_of(leaf) or leaf.meta["val"].ndim != 2:
        return None
    found = _in_one(leaf, new) or _in_bfloat16(leaf, new)
    return None if found is None or shows(found.a, leaves) or shows(found.b, leaves) else found


def _in_one(leaf: Node, new: Node) -> Sum | None:
    added, is_turned = source_of(new)
    if added.target is not aten.addmm.default or "beta" in added.kwargs:
        return None
    base, a, b = added.args
    if source_of(base) != (leaf, is_turned):
        return None
    return Sum(added, a, b, added.kwargs.get("alpha", 1), is_turned)


def _in_bfloat16(leaf: Node, new: Node) -> Sum | None:
    if not _is(new, aten.sub.Tensor) or new.args[0] is not leaf:
        return None
    scaled: Any = new.args[1]  # Any: torch's type for an argument is a union
    if not _is(scaled, aten.mul.Tensor) or not isinstance(scaled.args[1], float):
        return None
    cast, rate = scaled.args
    if not _is(cast, aten._to_copy.default):
        return None
    product, is_turned = source_of(cast.args[0])
    if not _is(product, aten.mm.default) or product.meta["val"].dtype is not torch.bfloat16:
        return None
    a, b = product.args
    return Sum(product, a, b, -rate, is_turned)


def _is(node: Any, operation: object) -> bool:  # Any: what a graph's argument may be
    return isinstance(node, Node) and node.target is operation
