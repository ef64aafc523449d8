"""The steps of a scan, one after the other, or as a loop in a traced graph; and their masks.

Traced as it is, a loop of n steps is n times the operations of its body, and Inductor takes the
longer to compile them, the longer it is. Here the body is traced by itself, and the loop is one
operation of the graph, torch's `scan`, which Inductor compiles as a loop in C++. The first step of
each way is traced by itself: from then on each gets a state, or records, of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, Final, TypeAlias

import attrs
import optree
import torch
from jaxtyping import Bool
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor
from torch.fx import GraphModule, Node

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Params, Tree, record, static, tree, unexpected
from lincoln_fn.runtime import RunsHere
from lincoln_fn.walk.internal import Record

# From what goes from step to step and what belongs to one, as scan.py's two functions have them.
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
    start, form = optree.tree_flatten(carry, namespace=core.EVERYTHING)
    sequences, of_xs = optree.tree_flatten(xs, namespace=core.EVERYTHING)
    start = [x.contiguous() if 0 in x.stride() else x for x in start]
    sequences = [x.clone(memory_format=torch.contiguous_format) for x in sequences]
    made: list[Any] = []  # Any: the structures, and the shapes, of what the step returns

    def flat(*leaves: Tensor) -> list[Tensor]:
        given = form.unflatten(leaves[: len(start)]), of_xs.unflatten(leaves[len(start) :])
        (after, of_after), (out, of_out) = (
            optree.tree_flatten(tree, namespace=core.EVERYTHING) for tree in step(*given)
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
    # Not an `expand` of all: a traced scan takes a view of what it was given for an alias.
    return steps.structure.unflatten(
        x if x.shape == place.shape else x.expand(place.shape)
        for x, place in zip(leaves, steps.places, strict=True)
    )


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
        return make_fx(flat)(*map(core.same_strides, leaves))


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


# The state's gradient, and the records so far.
CarryBack: TypeAlias = tuple[Arrays, tuple[Record, ...]]


@record
class Looped:
    """The caches of all steps, and the params with their states advanced."""

    first: Cache
    rest: Steps  # of (y_t, params, cache)
    advanced: Params


def each_there(step: Step, carry: Tree, walked: Arrays) -> tuple[Arrays, Arrays, tuple[Cache, ...]]:
    """Compute all y_t, the last state and the caches, step by step."""
    ys, caches = [], []
    for of_step in _each(walked):
        carry, (y_t, _, cache) = step(carry, of_step)
        ys.append(y_t)
        caches.append(cache)
    return tree.map(lambda *steps: torch.stack(steps), *ys), carry[1], tuple(caches)


def each_back(
    step: Step, carry: CarryBack, walked: Arrays, uses: Sequence[Params], caches: Sequence[Cache]
) -> tuple[CarryBack, list[Tensor | None]]:
    """Compute the gradients step by step, from the last to the first."""
    dxs, of_steps = [], [*_each(walked)]
    for i in reversed(range(len(caches))):
        carry, dx_t = step(carry, (*of_steps[i], uses[i], caches[i]))
        dxs.append(dx_t)
    entries = (
        [dx_t for dx_t in entry if dx_t is not None] for entry in zip(*dxs[::-1], strict=True)
    )
    return carry, [torch.stack(entry) if entry else None for entry in entries]


def _each(steps: Arrays) -> Iterable[Arrays]:
    if isinstance(steps, Tensor):
        return steps.unbind(0)
    if steps is None:
        return repeat(None)
    if type(steps) is tuple:  # as most are: no tree is walked for that
        return zip(*map(_each, steps), strict=False)
    return (tree.map(_entry(t), steps) for t in range(len(tree.leaves(steps)[0])))


def loop_there(step: Step, carry: Tree, walked: Arrays) -> tuple[Arrays, Arrays, Looped] | None:
    """Compute all y_t, the last state and the caches; None if it cannot be done by a loop."""
    carry, (y_1, _, first) = step(carry, tree.map(_entry(0), walked))
    looped = loop(step, carry, tree.map(_entry(slice(1, None)), walked))
    if looped is None:
        return None
    (advanced, state), rest = looped
    y, *_ = stacked_tree(rest)
    all_y = tree.map(lambda one, others: torch.cat([one.unsqueeze(0), others]), y_1, y)
    return all_y, state, Looped(first, rest, advanced)


def loop_back(
    step: Step, carry: CarryBack, walked: Arrays, params: Params, caches: Looped
) -> tuple[CarryBack, list[Tensor | None]] | None:
    """Compute the gradients; `walked` are g and the mask of each step."""
    rest = caches.rest

    def of_rest(carry: Tree, of_step: Arrays) -> tuple[Tree, Arrays]:
        (inner, shared), (g_t, mask_t, stacked) = carry, of_step
        _, its_params, cache = tree_of_step(rest, stacked, shared)
        inner, dx_t = step(inner, (g_t, mask_t, its_params, cache))
        return (inner, shared), dx_t

    later = *tree.map(_entry(slice(1, None)), walked), rest.stacked
    start, dx_n = of_rest((carry, rest.shared), tree.map(_entry(-1), later))
    looped = loop(of_rest, start, tree.map(lambda steps: steps[:-1].flip(0), later))
    if looped is None:
        return None
    (carry, _), between = looped
    carry, dx_1 = step(carry, (*tree.map(_entry(0), walked), params, caches.first))
    dxs = zip(dx_1, stacked_tree(between), dx_n, strict=True)
    return carry, [
        None if last is None else torch.cat([first[None], middle.flip(0), last[None]])
        for first, middle, last in dxs
    ]


def caches_of(caches: Looped) -> tuple[Cache, ...]:
    """List the cache of each step."""
    rest = caches.rest
    of_steps = ([tensor[i] for tensor in rest.stacked] for i in range(rest.count))
    trees = (tree_of_step(rest, stacked, rest.shared) for stacked in of_steps)
    return caches.first, *(cache for _, _, cache in trees)


def steps_in_order(sequences: Arrays, dim: int, reverse: bool) -> Arrays:
    """Put the axis of the steps first, and the steps in the order in which they are computed."""
    return tree.map(lambda x: (x.flip(dim) if reverse else x).movedim(dim, 0), sequences)


def steps_placed(steps: Tensor, dim: int, reverse: bool) -> Tensor:
    """Put the axis and the order of the steps back."""
    return (steps.flip(0) if reverse else steps).movedim(0, dim).contiguous()


def _entry(which: int | slice) -> Callable[[Tensor], Tensor]:
    return lambda steps: steps[which]


def unpack(x: Arrays, dim: int, count: int) -> tuple[tuple[Tensor, ...], Arrays, Tensor | None]:
    """Return the sequences, the first state and the mask, with the axis of the steps first."""
    entries = x if type(x) is tuple else (x,)
    sequences = entries[:count]
    is_one = count == 1 and type(x) is tuple and len(x) == 1
    fits = count <= len(entries) <= count + 2 and not is_one
    if not fits or not all(isinstance(sequence, Tensor) for sequence in sequences):
        form = "sequence" if count == 1 else ", ".join(f"sequence {i + 1}" for i in range(count))
        first = "a sequence" if count == 1 else f"({form})"
        expected = f"x to be {first}, ({form}, state) or ({form}, state, mask)"
        raise unexpected("scan", expected, core.describe_non_tuple(x))
    for sequence in sequences:
        core.check_axis("scan", sequence, dim)
    lengths = {sequence.shape[dim] for sequence in sequences}
    if len(lengths) > 1 or 0 in lengths:
        problem = f"at least one step in axis {dim}"
        problem += "" if count == 1 else ", and as many in each sequence"
        shapes = ", ".join(str(tuple(sequence.shape)) for sequence in sequences)
        raise unexpected("scan", problem, shapes)
    state, mask = (*entries[count:], None, None)[:2]
    return sequences, state, steps_first(mask, sequences[0], dim)


def steps_first(mask: object, sequence: Tensor, dim: int) -> Bool[Tensor, "length ..."] | None:
    """Check a mask that has the first axes of a sequence, and put the axis of the steps first."""
    if mask is None:
        return None
    dim %= sequence.ndim
    if (
        isinstance(mask, Tensor)
        and mask.dtype is torch.bool
        and mask.ndim > dim
        and mask.shape == sequence.shape[: mask.ndim]
    ):
        return mask.movedim(dim, 0)
    shape = tuple(sequence.shape[: max(dim + 1, 2)])
    raise core.unexpected("scan", f"a bool mask of shape {shape}", core.format_briefly(mask))


def where(mask: Bool[Tensor, "*mask"] | None, new: Arrays, old: Arrays) -> Arrays:
    """Return new where the mask of a step is True, and elsewhere old, or 0 if that is None."""
    if mask is None:
        return new

    def choose(leaf: Tensor, other: Tensor | int = 0) -> Tensor:
        if leaf.shape[: mask.ndim] != mask.shape:
            axes = f"the axes of the mask, {tuple(mask.shape)}"
            raise unexpected("scan", f"outputs and states that begin with {axes}", leaf.shape)
        return torch.where(mask.view(*mask.shape, *[1] * (leaf.ndim - mask.ndim)), leaf, other)

    return tree.map(choose, new) if old is None else tree.map(choose, new, old)
