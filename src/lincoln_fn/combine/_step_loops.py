"""The steps of a scan as a loop in a traced graph, whose body is traced once (core/loops.py).

The first step there, and the last step of all, which is the first on the way back, are traced by
themselves: from then on each step gets a state, or records, of the same form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import torch
from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.layer import Arrays, Cache, Params
from lincoln_fn.core.loops import Steps, loop, stacked_tree, tree_of_step, trees
from lincoln_fn.core.record import record
from lincoln_fn.walk.visits import Record

# The state's gradient, and the records so far.
CarryBack: TypeAlias = tuple[Arrays, tuple[Record, ...]]
# (carry, of a step) -> (carry, out). Any: as scan.py's two functions have them.
Step: TypeAlias = Callable[[Any, Any], tuple[Any, Any]]


@record
class Looped:
    """The caches of all steps, and the params with their states advanced."""

    first: Cache
    rest: Steps  # of (y_t, params, cache)
    advanced: Params


def loop_there(step: Step, carry: Any, walked: Arrays) -> tuple[Arrays, Arrays, Looped] | None:
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

    def of_rest(carry: Any, of_step: Any) -> tuple[Any, Any]:
        (inner, shared), (g_t, mask_t, stacked) = carry, of_step
        _, its_params, cache = tree_of_step(rest, stacked, shared)
        inner, dx_t = step(inner, (g_t, mask_t, its_params, cache))
        return (inner, shared), dx_t

    later = *tree.map(_entry(slice(1, None)), walked), rest.stacked
    start, dx_n = of_rest((carry, rest.shared), tree.map(_entry(-1), later))
    looped = loop(of_rest, start, tree.map(_reversed_but_last, later))
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
    return caches.first, *(cache for _, _, cache in trees(caches.rest))


def steps_in_order(sequences: Arrays, dim: int, reverse: bool) -> Arrays:
    """Put the axis of the steps first, and the steps in the order in which they are computed."""
    return tree.map(lambda x: (x.flip(dim) if reverse else x).movedim(dim, 0), sequences)


def steps_placed(steps: Tensor, dim: int, reverse: bool) -> Tensor:
    """Put the axis and the order of the steps back."""
    return (steps.flip(0) if reverse else steps).movedim(0, dim).contiguous()


def _entry(which: int | slice) -> Callable[[Tensor], Tensor]:
    return lambda steps: steps[which]


def _reversed_but_last(steps: Tensor) -> Tensor:
    return steps[:-1].flip(0)
