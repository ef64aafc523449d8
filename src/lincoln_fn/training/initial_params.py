"""Params that a run starts from, in place of those that the network draws."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from lincoln_fn import core
from lincoln_fn.core import Arrays, Key, Params, describe, format_briefly, suggest, tree, unexpected
from lincoln_fn.walk.internal import on_meta


def copy_like(params: Params, init: Callable[[Key, Arrays], Params], key: Key, x: Arrays) -> Params:
    """Copy given params in the memory layout of drawn ones, after checking that they fit."""
    try:
        drawn = init(Key(key.bits.to("meta")), on_meta(x))  # which draws no numbers
    except Exception:  # of an init that reads numbers; it says what is wrong with others
        drawn = init(key, x)
    # Copies, because a step that updates its state in place must not change the given params.
    own, given = _by_path(drawn), _by_path(params)
    if not tree.same_structure(params, drawn, states=True):
        mend = suggest(params, "params") or _difference(list(own), list(given))
        expected = f"params like the network's own, {format_briefly(drawn)}"
        raise unexpected("init_state", expected, describe(params), mend)
    for path, leaf in own.items():
        found = given[path]
        if not isinstance(found, Tensor) or found.shape != leaf.shape:
            raise core.wrong_shape("init_state", path, found, str(tuple(leaf.shape)))

    def copy(like: Tensor, leaf: Tensor) -> Tensor:
        memory = torch.empty_strided(
            like.shape, like.stride(), dtype=leaf.dtype, device=leaf.device
        )
        return memory.copy_(leaf.detach())

    return tree.map(copy, drawn, params, states=True)


def _by_path(params: Params) -> dict[str, Any]:  # Any: a tensor, or what was given for one
    paths = (f"params.{path}".removesuffix(".") for path in tree.paths(params, states=True))
    return dict(zip(paths, tree.leaves(params, states=True), strict=True))


def _difference(expected: list[str], given: list[str]) -> str:
    missing = [path for path in expected if path not in given]
    unknown = [path for path in given if path not in expected]
    named = (("missing", missing), ("unknown", unknown))
    return "; ".join(f"{word} {', '.join(paths)}" for word, paths in named if paths)
