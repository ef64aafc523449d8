"""Walks that tell which part changes a tensor in place that another one holds.

What a layer's forward was given and what it cached must be the same when its backward runs. A part,
a loop or a loss that writes into one of these tensors makes a gradient wrong, and often another
layer's. torch counts the changes of each tensor, so the walks need no copies.
"""

from __future__ import annotations

from typing import TypeAlias

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, Version, changed_since, versions
from lincoln_fn.walk.walks import there

# By layer: where it stands, and the tensors that its backward will read.
Held: TypeAlias = list[tuple[str, list[Version]]]


class InPlaceError(core.LayerError):
    """A tensor that a function changed in place, and that another one holds."""


def check_unchanged(where: str, function: str, noted: list[Version]) -> None:
    """Check that a function changed none of its arguments in place."""
    if path := changed_since(noted):
        problem = f"{function} changed {path} in place, which others hold, too"
        raise InPlaceError(where, f"{problem}; make a new tensor, such as x * 2 for x.mul_(2)")


def forward_unchanged(net: Layer, params: Params, x: Arrays) -> tuple[Arrays, Cache, Held]:
    """Run forward, check each layer's arguments, and note what its backward will read."""
    held: Held = []

    def visit(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        noted = versions(params=params, x=x)
        pair = layer.forward(params, x)
        core.check_pair(layer.name, "forward", pair)
        check_unchanged(layer.name, "forward", noted)
        held.append((f"{path} {layer.name}".lstrip(), [*noted, *versions(cache=pair[1])]))
        return pair

    y, cache = there(visit, net, params, x)
    return y, cache, held


def check_held(held: Held) -> None:
    """Check that nothing that a backward will read was changed in place since its forward."""
    for where, noted in held:
        if path := changed_since(noted):
            problem = f"its {path} was changed in place between forward and backward"
            raise InPlaceError(where, f"{problem}; make a new tensor, such as y * 2 for y.mul_(2)")


def backward_unchanged(
    layer: Layer, params: Params, cache: Cache, g: Arrays
) -> tuple[Arrays, Params]:
    """Run a layer's backward, and check its arguments."""
    noted = versions(params=params, cache=cache, g=g)
    pair = layer.backward(params, cache, g)
    core.check_pair(layer.name, "backward", pair)
    check_unchanged(layer.name, "backward", noted)
    return pair
