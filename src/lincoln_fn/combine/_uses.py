"""Shared by combinators that use a part several times, or run it again in the backward pass."""

from __future__ import annotations

from functools import partial, reduce

import torch

from lincoln_fn import core
from lincoln_fn.core import Arrays, LayerError, Params, check_cache, format_briefly, record, tree
from lincoln_fn.walk.internal import Record, VisitRecord, VisitThere


@record
class Kept:
    """What a layer that runs again keeps: tensors, and the params with their states advanced."""

    # The trained tensors in `advanced` are the caller's, so only its states take memory.

    arrays: Arrays
    advanced: Params


def keep(visit: VisitThere, arrays: Arrays, params: Params, record: Record) -> Kept:
    """Keep tensors, and the params with the part's state advanced; None if it has no state."""
    is_still = visit.parts[0].advance is core.unchanged
    return Kept(arrays, None if is_still else visit.advance(0, params, record))


def wrong_output(visit: VisitThere, i: int, expected: str, got: object) -> LayerError:
    """Make the error about the output of a part; a shape is told as a tuple."""
    told = got if isinstance(got, torch.Size) else format_briefly(got)
    return core.unexpected(f"{visit.label}[{i}] {visit.parts[i].name}", expected, told)


def gather_uses(visit: VisitRecord, params: Params, records: Record) -> Params:
    """Add up the gradients of all uses of part 0, whose params are the composition's."""
    # From the last use to the first, as the walk back adds them up.
    uses = [visit(0, params, record) for record in reversed(records)]
    return reduce(partial(tree.map, torch.add), uses)


def with_states(visit: VisitThere, params: Params, cache: Kept) -> Params:
    """Return the params with the states that `cache.advanced` has: an `advance`."""
    check_cache(visit.label, cache, Kept)
    return tree.map(lambda _, trained: trained, cache.advanced, params)


def check_mirrors(label: str, g: Arrays, y: Arrays) -> None:
    """Check that a composition's g has the structure and the shapes of its y."""
    if not tree.same_structure(g, y):
        raise core.unexpected(label, f"g like y, {format_briefly(y)}", format_briefly(g))
    for given, cached in zip(tree.leaves(g), tree.leaves(y), strict=True):
        core.check_cotangent(label, given, cached)
