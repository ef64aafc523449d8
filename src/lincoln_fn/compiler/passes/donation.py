"""Donated states in compiled steps: the graph updates the state in place.

A leaf is updated within the graph if its new value has the same shape, strides, dtype and device.
If the step's value is not finite, the leaf keeps its old numbers. With a torch that settings.py
does not know, each new value gets memory of its own.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from itertools import compress
from typing import Any, Literal, TypeAlias

import torch
from torch import Tensor
from torch.fx import Graph, Node

from lincoln_fn.compiler.inductor.settings import IS_KNOWN
from lincoln_fn.compiler.passes import product_updates
from lincoln_fn.compiler.passes.rewriting import base_of, kind_of, materialize, outputs_of
from lincoln_fn.compiler.tracing import Traced
from lincoln_fn.fastpath import Argument
from lincoln_fn.training import nothing_like

aten = torch.ops.aten

# Any: a descriptor, as torch's type for it does not say.
_data: Any = Tensor.data
_get_data, _set_data = _data.__get__, _data.__set__

# A function of the list of the leaves of (state, batch), which it may empty.
Flat: TypeAlias = Callable[[list[Tensor]], Sequence[Tensor]]


# What happens to a leaf of the state: it is kept, an output of the graph replaces it, or the graph
# updates it in place.
Fate: TypeAlias = Literal["kept", "output", "updated"]


def donate(traced: Traced, count: int) -> list[Fate]:
    """Change a traced step so that it updates the first `count` leaves in place."""
    graph = traced.graph.graph
    holders, end = graph.find_nodes(op="placeholder")[:count], graph.output_node()
    *successors, value = outputs_of(graph)
    fates: list[Fate] = []
    outputs: list[Node] = []
    with graph.inserting_before(end):
        total = value  # of a weighted loss, followed by the values of its parts
        if value.meta["val"].ndim:
            total = graph.call_function(aten.select.int, (value, 0, 0))
        is_finite = graph.call_function(aten.isfinite.default, (total,))
        *successors, value = _without_aliases(graph, holders, [*successors, value], is_finite)
        updates = product_updates.updates(graph, holders, successors)
        # First, because they read numbers that the other updates change.
        for update in updates:
            product_updates.write(graph, update, is_finite)
        changed = {leaf for update in updates for leaf in update.leaves}
        for leaf, new in zip(holders, successors, strict=True):
            if new is leaf:
                fates.append("kept")
            elif leaf in changed:
                fates.append("updated")
            elif IS_KNOWN and kind_of(leaf) == kind_of(new):
                chosen = graph.call_function(aten.where.self, (is_finite, new, leaf))
                graph.call_function(aten.copy_.default, (leaf, chosen))
                fates.append("updated")
            else:
                outputs.append(new)
                fates.append("output")
    end.args = ((*outputs, value),)
    traced.graph.recompile()
    return fates


def _without_aliases(
    graph: Graph, leaves: Sequence[Node], outputs: Sequence[Argument], is_finite: Node
) -> list[Argument]:
    """Copy each output that is a view of another output, or of a leaf that is updated later."""
    taken = {*leaves}
    apart = []
    for i, output in enumerate(outputs):
        copied = output
        is_kept = i < len(leaves) and output is leaves[i]
        if isinstance(output, Node) and not is_kept:
            if base_of(output) in taken:
                # Not a clone: Inductor removes clones, even if their source is updated later.
                same = graph.call_function(aten.where.self, (is_finite, output, output))
                copied = graph.call_function(materialize, (same,))
                copied.meta = {"val": output.meta["val"].clone()}
            taken.add(base_of(output))
        apart.append(copied)
    return apart


# (old leaves, the graph's outputs for them) -> the new leaves.
Handover: TypeAlias = Callable[[Sequence[Tensor], Sequence[Tensor]], list[Tensor]]


def make_handover(fates: Sequence[Fate], leaves: Sequence[Tensor]) -> Handover:
    """Make the function that gives each new state the memory that the graph has updated."""
    # The old leaves that the graph has updated are empty afterwards.
    is_updated = [fate == "updated" for fate in fates]
    unchanged = [i for i, fate in enumerate(fates) if fate == "kept"]
    replaced = [i for i, fate in enumerate(fates) if fate == "output"]
    nothing = [nothing_like(leaf) for leaf in compress(leaves, is_updated)]

    def hand_over(old: Sequence[Tensor], outputs: Sequence[Tensor]) -> list[Tensor]:
        # By maps: a loop over the leaves is measurable in small steps.
        new = list(map(_get_data, old))
        deque(map(_set_data, compress(old, is_updated), nothing), maxlen=0)
        for i in unchanged:
            new[i] = old[i]
        for i, output in zip(replaced, outputs, strict=True):
            new[i] = output
        return new

    return hand_over
