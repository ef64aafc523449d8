"""The backward walk of a training step, which passes on each gradient as soon as it is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from torch import Tensor

from lincoln_fn.core import Arrays, Cache, Layer, Params, tree
from lincoln_fn.distributed.sharding.fully_sharded import is_fully_sharded
from lincoln_fn.walk import Composition
from lincoln_fn.walk.internal import (
    BACKWARD,
    DPARAMS,
    Wants,
    composition_of,
    gather_entries,
    inside,
    sum_uses,
    untrained,
    walk_back,
)

Put = Callable[[int, Tensor], None]


def post_gradients(net: Layer, params: Params, cache: Cache, g: Arrays, put: Put) -> None:
    """Walk back through a network, and pass each gradient to `put` as soon as it is complete."""
    # A parameter that is used in several places is posted when all its uses are added up.
    leaves, posted = tree.leaves(params), set()
    positions: dict[int, int | None] = {}
    for i, leaf in enumerate(leaves):  # a leaf that occurs twice has no single position
        positions[id(leaf)] = None if id(leaf) in positions else i
    groups = dict(_groups(net, ""))

    def post(params: Params, dparams: Params) -> None:
        pairs = zip(tree.leaves(params), tree.leaves(dparams), strict=True)
        for leaf, gradient in pairs:
            i = positions.get(id(leaf))
            if i is not None and i not in posted:
                posted.add(i)
                put(i, gradient)

    def visit(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
    ) -> tuple[Arrays, Params]:
        dx, dparams = BACKWARD.visit(layer, path, params, cache, g, wants)
        if wants.dparams and not any(path.startswith(f"{group}.") for group in groups):
            post(params, dparams)
        return dx, dparams

    def gather(made: Composition, params: Params, records: Params) -> Params:
        if is_fully_sharded(made):
            post(params, records)  # the gradients of the whole parameters; slices are added up
            return params
        dparams = made.gathered(params, records)
        if any(made is group for group in groups.values()):
            post(params, dparams)
        return dparams

    _, dparams = walk_back(
        visit, net, params, cache, g, DPARAMS, skip=untrained, gather=gather, add=sum_uses
    )
    for i, gradient in enumerate(tree.leaves(dparams)):
        if i not in posted:
            put(i, gradient)


def _groups(layer: Layer, path: str) -> Iterator[tuple[str, Composition]]:
    """Yield the outermost compositions that merge their records themselves."""
    made = composition_of(layer)
    if made is None:
        return
    if made.gather is not gather_entries:
        yield path, made
        return
    for i, part in enumerate(made.parts):
        yield from _groups(part, inside(path, i))
