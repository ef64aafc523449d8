"""The steps of a scan, one after the other, or as a loop in a traced graph; and their masks.

The body of a loop is traced once (_loops.py). The first step of each way is traced by itself:
from then on each gets a state, or records, of the same form.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import repeat
from typing import Any, TypeAlias

import torch
from jaxtyping import Bool
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.combine import _loops
from lincoln_fn.core import Arrays, Cache, Params, record, tree, unexpected
from lincoln_fn.walk.internal import Record

# The state's gradient, and the records so far.
CarryBack: TypeAlias = tuple[Arrays, tuple[Record, ...]]
# Any: what goes from step to step, and what belongs to one, as scan.py's two functions have them.
Carry: TypeAlias = Any
Step: TypeAlias = Callable[[Carry, Arrays], tuple[Carry, Arrays]]


@record
class Looped:
    """The caches of all steps, and the params with their states advanced."""

    first: Cache
    rest: _loops.Steps  # of (y_t, params, cache)
    advanced: Params


def each_there(
    step: Step, carry: Carry, walked: Arrays
) -> tuple[Arrays, Arrays, tuple[Cache, ...]]:
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


def loop_there(step: Step, carry: Carry, walked: Arrays) -> tuple[Arrays, Arrays, Looped] | None:
    """Compute all y_t, the last state and the caches; None if it cannot be done by a loop."""
    carry, (y_1, _, first) = step(carry, tree.map(_entry(0), walked))
    looped = _loops.loop(step, carry, tree.map(_entry(slice(1, None)), walked))
    if looped is None:
        return None
    (advanced, state), rest = looped
    y, *_ = _loops.stacked_tree(rest)
    all_y = tree.map(lambda one, others: torch.cat([one.unsqueeze(0), others]), y_1, y)
    return all_y, state, Looped(first, rest, advanced)


def loop_back(
    step: Step, carry: CarryBack, walked: Arrays, params: Params, caches: Looped
) -> tuple[CarryBack, list[Tensor | None]] | None:
    """Compute the gradients; `walked` are g and the mask of each step."""
    rest = caches.rest

    def of_rest(carry: Carry, of_step: Arrays) -> tuple[Carry, Arrays]:
        (inner, shared), (g_t, mask_t, stacked) = carry, of_step
        _, its_params, cache = _loops.tree_of_step(rest, stacked, shared)
        inner, dx_t = step(inner, (g_t, mask_t, its_params, cache))
        return (inner, shared), dx_t

    later = *tree.map(_entry(slice(1, None)), walked), rest.stacked
    start, dx_n = of_rest((carry, rest.shared), tree.map(_entry(-1), later))
    looped = _loops.loop(of_rest, start, tree.map(lambda steps: steps[:-1].flip(0), later))
    if looped is None:
        return None
    (carry, _), between = looped
    carry, dx_1 = step(carry, (*tree.map(_entry(0), walked), params, caches.first))
    dxs = zip(dx_1, _loops.stacked_tree(between), dx_n, strict=True)
    return carry, [
        None if last is None else torch.cat([first[None], middle.flip(0), last[None]])
        for first, middle, last in dxs
    ]


def caches_of(caches: Looped) -> tuple[Cache, ...]:
    """List the cache of each step."""
    return caches.first, *(cache for _, _, cache in _loops.trees(caches.rest))


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
