"""Walks that tell which part changes a tensor in place that another one holds.

What a layer's forward was given and what it cached must be the same when its backward runs, or a
gradient is wrong. torch counts the changes of each tensor, so the walks need no copies.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

from lincoln_fn import core
from lincoln_fn.core import Arrays, Cache, Layer, Params, Version, changed_since, versions
from lincoln_fn.walk.walks import back, there

# By layer: where it stands, and the tensors that its backward will read.
Held: TypeAlias = list[tuple[str, list[Version]]]


class InPlaceError(core.LayerError):
    """A tensor that a function changed in place, and that another one holds."""


def check_unchanged(where: str, function: str, noted: list[Version]) -> None:
    """Check that a function changed none of its arguments in place."""
    if path := changed_since(noted):
        problem = f"{function} changed {path} in place, which others hold, too"
        raise InPlaceError(where, f"{problem}; make a new tensor, such as x * 2 for x.mul_(2)")


def check_held(held: Held) -> None:
    """Check that nothing that a backward will read was changed in place since its forward."""
    for where, noted in held:
        if path := changed_since(noted):
            problem = f"its {path} was changed in place between forward and backward"
            raise InPlaceError(where, f"{problem}; make a new tensor, such as y * 2 for y.mul_(2)")


def check_in_place(
    net: Layer,
    params: Params,
    x: Arrays,
    g_of: Callable[[Arrays], Arrays],
    check: Callable[[Layer, Params, Params], None] = lambda layer, params, dparams: None,
) -> None:
    """Run forward and backward, and check that no function changes in place what others hold."""
    held: Held = []

    def call(layer: Layer, function: str, **given: Arrays) -> tuple[Arrays, Arrays]:
        noted = versions(**given)
        pair: tuple[Arrays, Arrays] = getattr(layer, function)(*given.values())
        core.check_pair(layer.name, function, pair)
        check_unchanged(layer.name, function, noted)
        return pair

    def going(layer: Layer, path: str, params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        y, cache = call(layer, "forward", params=params, x=x)
        noted = versions(params=params, x=x, cache=cache)
        held.append((f"{path} {layer.name}".lstrip(), noted))
        return y, cache

    def coming(
        layer: Layer, path: str, params: Params, cache: Cache, g: Arrays
    ) -> tuple[Arrays, None]:
        dx, dparams = call(layer, "backward", params=params, cache=cache, g=g)
        check(layer, params, dparams)
        return dx, None

    y, cache = there(going, net, params, x)
    g = g_of(y)
    check_held(held)
    back(coming, net, params, cache, g)
    check_held(held)
