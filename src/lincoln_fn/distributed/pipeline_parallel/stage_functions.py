"""What a stage of a pipeline computes in each of its actions."""

from __future__ import annotations

from collections.abc import Callable

import attrs

from lincoln_fn import compiler
from lincoln_fn.core import Arrays, Cache, Layer, Params
from lincoln_fn.walk import cotangents, grads_at
from lincoln_fn.walk.internal import Placed, Record


@attrs.frozen(eq=False)
class StageFunctions:
    """What a stage computes in F, in B and in W."""

    forward: Callable[[Params, Arrays], tuple[Arrays, Cache]]
    cotangents: Callable[[Params, Cache, Arrays], tuple[Arrays, Record]]
    grads_at: Callable[[Params, Record], Params]


def stage_functions(i: int, layer: Layer, *, compiled: bool) -> StageFunctions:
    """Make what stage i computes, with errors that name the stage."""

    # `compile` takes functions of two trees.
    def back(before: tuple[Params, Cache], g: Arrays) -> tuple[Arrays, Record]:
        return cotangents(layer, *before, g, dx=i > 0)

    def gradient(params: Params, sites: Record) -> Params:
        return grads_at(layer, params, sites)

    place, made = f"pipeline[{i}]", (layer.forward, back, gradient)
    forward, dx, grads = map(compiler.compile, made) if compiled else made
    return StageFunctions(
        Placed(place, layer.name, "forward", forward),
        Placed(place, layer.name, "backward", lambda params, cache, g: dx((params, cache), g)),
        Placed(place, layer.name, "grads", grads),
    )
