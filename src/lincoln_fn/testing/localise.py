"""The parts of a composition, each at the input that reaches it."""

from __future__ import annotations

from functools import partial
from typing import NamedTuple

from lincoln_fn.core.layer import Arrays, Cache, Layer, Params
from lincoln_fn.walk.paths import map_paths, paths


class Part(NamedTuple):
    """One use of a part of a network."""

    path: str
    layer: Layer
    params: Params
    x: Arrays


def parts_at(net: Layer, params: Params, x: Arrays) -> list[Part]:
    """List the parts of a network with what they are given, the innermost first."""
    layers = dict(paths(net))
    seen: dict[str, Part] = {}

    def forward(path: str, inner: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        seen.setdefault(path, Part(path, layers[path], params, x))
        return inner.forward(params, x)

    def spied(layer: Layer, path: str) -> Layer:
        return layer.replace(forward=partial(forward, path, layer)) if path else layer

    map_paths(spied, net).forward(params, x)
    return sorted(seen.values(), key=lambda part: -part.path.count("."))
