"""Donated states in compiled steps: the graph updates the state in place.

A leaf whose successor has the same shape, strides, dtype and device is updated within the graph, as
its successor is computed. If the step's value is not finite, it keeps its old numbers. With a torch
that versions.py does not know, the successor gets memory of its own.

A matrix product added to a leaf, W + alpha a b, is left to ATen, outside the graph. Inductor would
store the sum beside W. Both factors live until then, so they must not be much larger than W. There
are C++ kernels within the graph for a product in bfloat16 or float16 that is added to W, and for
other updates by a large product (product_updates.py).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Final, NamedTuple, TypeAlias

import torch
from torch import Tensor
from torch.fx import Graph, Node

from lincoln_fn._spent import nothing_like
from lincoln_fn.compiled import (
    bfloat16_products,
    float16_products,
    product_updates,
    small_products,
)
from lincoln_fn.compiled.nodes import kind_of
from lincoln_fn.compiled.products import better_way
from lincoln_fn.compiled.sums import Sum, sum_for
from lincoln_fn.compiled.tracing import Traced
from lincoln_fn.compiled.versions import IS_KNOWN
from lincoln_fn.compiled.ways import small_by_columns

aten = torch.ops.aten

# How large the factors of a product that is added to a leaf may be, both together.
_TIMES_THE_LEAF: Final = 2

# Any: a descriptor, as torch's type for it does not say.
_data: Any = Tensor.data
_get_data, _set_data = _data.__get__, _data.__set__

# A function of the leaves of (state, batch), whose list it may empty.
Flat: TypeAlias = Callable[[list[Tensor]], Sequence[Tensor]]


class Fate(NamedTuple):
    """What becomes of a leaf of the state.

    `outputs` is the number of the graph's outputs for it: none if it is kept, or updated within the
    graph; one, its successor; or two, the factors of a product that is added to it.
    """

    outputs: int
    kept: bool = False
    alpha: float = 0.0


class Added(NamedTuple):
    """A product that is to be added to a leaf: leaf + alpha a b."""

    leaf: Tensor
    a: Tensor
    b: Tensor
    alpha: float


def written_over(traced: Traced, count: int, *, small: bool) -> list[Fate]:
    """Change a traced step so that it updates its state in place.

    Args:
        traced: the step; its graph is changed.
        count: the number of the state's leaves, which come first among inputs and outputs.
        small: whether the step is small, and makes loops of its products.

    Returns:
        What becomes of each leaf; the graph has other outputs.
    """
    graph = traced.graph.graph
    holders, end = graph.find_nodes(op="placeholder"), graph.output_node()
    leaves: Any = end.args[0]  # Any: torch's type for a node's arguments names no list
    *successors, value = leaves
    outputs: list[Node] = []
    fates = []
    with graph.inserting_before(end):
        total = value  # of a weighted loss, in front of the values of its parts
        if value.meta["val"].ndim:
            total = graph.call_function(aten.select.int, (value, 0, 0))
        is_finite = graph.call_function(aten.isfinite.default, (total,))
        updates = product_updates.updates(graph, holders[:count], successors)
        changed = {leaf for update in updates for leaf in update.leaves}
        # First, for they read numbers that the others change.
        for update in updates:
            product_updates.write(graph, update, is_finite)
        for holder, new in zip(holders[:count], successors, strict=True):
            if holder in changed:
                fates.append(Fate(0))
                continue
            added = sum_for(holder, new, holders[:count])
            fate, made = _settled(graph, holder, new, added, is_finite, small=small)
            fates.append(fate)
            outputs += made
    end.args = ((*outputs, value),)
    traced.graph.recompile()
    return fates


# Any: what a graph may hold.
def _settled(
    graph: Graph, leaf: Node, new: Any, added: Sum | None, is_finite: Node, *, small: bool
) -> tuple[Fate, tuple[Node, ...]]:
    """Write what becomes of a leaf into the graph; give the outputs that are for it, too."""
    if new is leaf:
        return Fate(0, kept=True), ()
    update = _update_by_loop(leaf, added) if added else None
    if added and update:
        weight = _turned(graph, leaf) if added.is_turned else leaf
        a = graph.call_function(aten.mul.Tensor, (added.a, added.alpha))
        graph.call_function(update, (weight, a, added.b, is_finite))
        return Fate(0), ()
    if added and _is_added_outside(leaf, added, small=small):
        fate = Fate(2, alpha=float(added.alpha))
        if added.is_turned:  # (a b)^T = b^T a^T
            return fate, (_turned(graph, added.b), _turned(graph, added.a))
        return fate, (added.a, added.b)
    if not IS_KNOWN or kind_of(leaf) != kind_of(new):
        return Fate(1), (new,)
    chosen = graph.call_function(aten.where.self, (is_finite, new, leaf))
    graph.call_function(aten.copy_.default, (leaf, chosen))
    return Fate(0), ()


def _turned(graph: Graph, matrix: Node) -> Node:
    return graph.call_function(aten.transpose.int, (matrix, 0, 1))


def _update_by_loop(
    leaf: Node, added: Sum
) -> Callable[[Tensor, Tensor, Tensor, Tensor], None] | None:
    """Choose the loop that adds the product to its leaf; None if there is none.

    It takes the leaf, the factors, and whether the step is finite.
    """
    weight, a, b = (node.meta["val"] for node in (leaf, added.a, added.b))
    given = weight.mT if added.is_turned else weight, a, b
    loops = (bfloat16_products, float16_products)
    return next((loop.update for loop in loops if loop.adds(*given)), None)


def _is_added_outside(leaf: Node, added: Sum, *, small: bool) -> bool:
    """Tell whether ATen is to add the product to its leaf, outside of the graph."""
    weight, a, b = (node.meta["val"] for node in (leaf, added.a, added.b))
    if a.dtype is not weight.dtype or a.numel() + b.numel() > _TIMES_THE_LEAF * weight.numel():
        return False
    # In a larger step, a small product's own loop gains less than a tensor for its result costs.
    others = () if small else (small_products.product, small_by_columns)
    return better_way(added.node, small=small) in (None, *others)


# Of the old leaves, and of the graph's outputs for them: the new leaves, and the products.
Handover: TypeAlias = Callable[
    [Sequence[Tensor], Sequence[Tensor]], tuple[list[Tensor], list[Added]]
]


def handover(fates: Sequence[Fate], leaves: Sequence[Tensor]) -> Handover:
    """Make, once, the function that gives each new state the memory that the graph has updated.

    Args:
        fates: what becomes of each leaf.
        leaves: of a state, of which only dtype and device count.

    Returns:
        (old, outputs) -> (new, products). `old` are the state's leaves, of which those that the
        graph has updated are empty afterwards; `outputs` are the graph's, without the value. `new`
        are the new state's leaves, to some of which `products` are still to be added.
    """
    kept, given, products = [], [], []
    of_outputs = 0
    for place, fate in enumerate(fates):
        if fate.kept:
            kept.append(place)
        elif fate.outputs == 1:
            given.append((place, of_outputs))
        elif fate.outputs == 2:
            products.append((place, of_outputs, fate.alpha))
        of_outputs += fate.outputs
    is_written = [not fate.kept and fate.outputs != 1 for fate in fates]
    nothing = [nothing_like(leaf) for leaf in compress(leaves, is_written)]

    def handed_over(
        old: Sequence[Tensor], outputs: Sequence[Tensor]
    ) -> tuple[list[Tensor], list[Added]]:
        # By maps, for a small step notices a loop over its leaves.
        new = list(map(_get_data, old))
        deque(map(_set_data, compress(old, is_written), nothing), maxlen=0)
        for place in kept:
            new[place] = old[place]
        for place, i in given:
            new[place] = outputs[i]
        return new, [Added(new[p], outputs[i], outputs[i + 1], alpha) for p, i, alpha in products]

    return handed_over
