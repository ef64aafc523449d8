"""Loops of a traced step: the body is traced once, for however many steps.

    carry, out_t = step(carry, xs_t)        for t from 1 to n

Traced as it is, such a loop is n times the operations of its body, and Inductor takes the longer to
compile them, the longer it is. Here the body is traced by itself, and the loop is one operation of
the graph, torch's `scan`, which Inductor compiles as a loop in C++.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final, TypeAlias

import attrs
import optree
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node

from lincoln_fn.core import EVERYTHING, Arrays, Tree, record, same_strides, static
from lincoln_fn.runtime import RunsHere

Step: TypeAlias = Callable[[Tree, Tree], tuple[Tree, Tree]]

# A shorter loop is traced step by step, because a step of training then takes less time: with a GRU
# cell 0.7 of a loop's time for 16 steps, 0.9 for 32, and as much for 64 (docs/compile.md).
LONG: Final = 32


@attrs.frozen
class Place:
    """Where a leaf of the steps' trees is, and its shape in each of them."""

    is_stacked: bool
    position: int
    shape: tuple[int, ...]


@record
class Steps:
    """Trees of one form, one for each step, whose leaves are stacked, or the same in all steps."""

    stacked: tuple[Tensor, ...]  # the axis of the steps first
    shared: tuple[Tensor, ...]
    count: int = static()
    places: tuple[Place, ...] = static()
    structure: Any = static()  # Any: optree's, whose class has no public type


def is_traced_once(x: Tensor, steps: int) -> bool:
    """Return whether the body of a loop over x, of so many steps, is traced once."""
    if steps < LONG or not isinstance(x, FakeTensor) or x.device.type != "cpu":
        return False
    return isinstance(x.fake_mode, RunsHere) and x.fake_mode.has_loops


def loop(step: Step, carry: Arrays, xs: Arrays) -> tuple[Arrays, Steps] | None:
    """Run a loop over xs' first axis as one operation; None if a step changes its carry's form."""
    start, form = optree.tree_flatten(carry, namespace=EVERYTHING)
    sequences, of_xs = optree.tree_flatten(xs, namespace=EVERYTHING)
    start = [x.contiguous() if 0 in x.stride() else x for x in start]
    sequences = [x.clone(memory_format=torch.contiguous_format) for x in sequences]
    made: list[Any] = []  # Any: the structures, and the shapes, of what the step returns

    def flat(*leaves: Tensor) -> list[Tensor]:
        given = form.unflatten(leaves[: len(start)]), of_xs.unflatten(leaves[len(start) :])
        (after, of_after), (out, of_out) = (
            optree.tree_flatten(tree, namespace=EVERYTHING) for tree in step(*given)
        )
        made[:] = of_after, of_out, [tuple(leaf.shape) for leaf in out]
        return [*after, *map(_without_repeats, out)]

    graph = _trace(flat, [*start, *(sequence[0] for sequence in sequences)])
    after, out = _results(graph, len(start))
    of_after, of_out, shapes = made
    if of_after != form or not all(map(_is_like, after, start)) or _reads_others(graph):
        return None
    end, values, still = _run(graph, start, sequences)
    nodes = [*dict.fromkeys(out)]
    kinds = [node for node in nodes if node in still], [node for node in nodes if node not in still]
    places = [
        Place(node not in still, kinds[node not in still].index(node), shape)
        for node, shape in zip(out, shapes, strict=True)
    ]
    shared, stacked = (tuple(values[node] for node in kind) for kind in kinds)
    return form.unflatten(end), Steps(stacked, shared, len(sequences[0]), tuple(places), of_out)


def tree_of_step(steps: Steps, stacked: Sequence[Tensor], shared: Sequence[Tensor]) -> Tree:
    """Make the tree of one step of its stacked tensors."""
    leaves = [(shared, stacked)[place.is_stacked][place.position] for place in steps.places]
    shapes = [place.shape for place in steps.places]
    return steps.structure.unflatten(
        x if x.shape == shape else x.expand(shape) for x, shape in zip(leaves, shapes, strict=True)
    )


def trees(steps: Steps) -> list[Tree]:
    """List the trees of all steps."""
    return [
        tree_of_step(steps, [tensor[i] for tensor in steps.stacked], steps.shared)
        for i in range(steps.count)
    ]


def stacked_tree(steps: Steps) -> Tree:
    """Make one tree, whose leaves have the axis of the steps first."""
    tensors = steps.shared, steps.stacked
    return steps.structure.unflatten(
        tensors[place.is_stacked][place.position].expand(steps.count, *place.shape)
        for place in steps.places
    )


def _trace(flat: Callable[..., list[Tensor]], leaves: Sequence[Tensor]) -> GraphModule:
    """Trace a function apart from the graph that is being traced."""
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx

    with disable_proxy_modes_tracing():
        return make_fx(flat)(*map(same_strides, leaves))


def _results(graph: GraphModule, carried: int) -> tuple[list[Node], list[Node]]:
    """Return the nodes of the carry after a step, and those of what else the step returns."""
    outputs: Any = graph.graph.output_node().args[0]  # Any: torch's type names no list
    return outputs[:carried], outputs[carried:]


def _run(
    graph: GraphModule, start: Sequence[Tensor], sequences: Sequence[Tensor]
) -> tuple[list[Tensor], dict[Node, Tensor], set[Node]]:
    """Run a traced step for all steps; return the last carry, and what each node is.

    The nodes returned last are tensors that a step returns as they came: no loop carries them.
    """
    inputs, (after, out) = graph.graph.find_nodes(op="placeholder"), _results(graph, len(start))
    still = {node: x for node, x, new in zip(inputs, start, after, strict=False) if new is node}
    moved = [i for i in range(len(start)) if inputs[i] not in still]
    stacked = dict(zip(inputs[len(start) :], sequences, strict=True))
    new = [*dict.fromkeys(node for node in out if node not in still and node not in stacked)]
    given = {id(x): x for x in still.values()}  # each tensor once
    order = [*(inputs[i] for i in moved), *stacked, *given]
    positions = [order.index(id(still[node]) if node in still else node) for node in inputs]
    returned = [*moved, *map([*after, *out].index, new)]

    def body(*leaves: Tensor) -> list[Tensor]:
        values = graph(*(leaves[i] for i in positions))
        # It may return no views. Inductor computes a clone in the memory that it is copied to.
        return [values[i].clone(memory_format=torch.contiguous_format) for i in returned]

    first = [start[i].clone(memory_format=torch.contiguous_format) for i in moved]
    results = torch.ops.higher_order.scan(body, first, sequences, tuple(given.values()))
    last = dict(zip(moved, results, strict=False))
    end = [last.get(i, x) for i, x in enumerate(start)]
    values = {**still, **stacked, **dict(zip(new, results[len(moved) :], strict=True))}
    return end, values, {*still}


def _without_repeats(leaf: Tensor) -> Tensor:
    """Return a single entry of each axis along which a tensor is expanded."""
    for dim, stride in enumerate(leaf.stride()):
        if stride == 0 and leaf.shape[dim] > 1:
            leaf = leaf.narrow(dim, 0, 1)
    return leaf


def _is_like(node: Node, leaf: Tensor) -> bool:
    value = node.meta["val"]
    return bool(value.shape == leaf.shape and value.dtype == leaf.dtype)


def _reads_others(graph: GraphModule) -> bool:
    """Return whether a step reads a tensor of the graph that is none of its arguments."""
    read = (getattr(graph, str(node.target)) for node in graph.graph.find_nodes(op="get_attr"))
    return any(isinstance(tensor, FakeTensor) for tensor in read)
