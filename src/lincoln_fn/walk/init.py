"""Params of parts that run one after the other, each made from the output of the part before it."""

from __future__ import annotations

from typing import TypeVar

from torch import Tensor

from lincoln_fn.core import tree
from lincoln_fn.core.keys import Key
from lincoln_fn.core.layer import Arrays, Layer, Params
from lincoln_fn.runtime.cache_folder import make_cache_folder
from lincoln_fn.runtime.deferred import defer_compiler

T = TypeVar("T")


def init_in_turn(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    """Make the params of each part from the output of the part before it."""
    return init_with_outputs(parts, key, x)[0]


def init_with_outputs(
    parts: tuple[Layer, ...], key: Key, x: Arrays
) -> tuple[Params, tuple[Arrays, ...]]:
    """Make the params of parts that run one after the other, and return their outputs, too."""
    # Each part has a key of its own. The outputs are on `meta`, where nothing is computed.
    made: list[Params] = []
    outputs: list[Arrays] = []
    for i, part in enumerate(parts):
        made.append(part.init(key.fold_in(i), x))
        x = part.predict(on_meta(made[i]), on_meta(x))
        outputs.append(x)
    return tuple(made), tuple(outputs)


def on_meta(arrays: T) -> T:
    """Move a tree of tensors to the device `meta`, where they have shapes and no values."""
    defer_compiler()
    make_cache_folder()

    # Other values are left unchanged, and the layer refuses them.
    def move(leaf: object) -> object:
        return leaf.to("meta") if isinstance(leaf, Tensor) else leaf

    return tree.map(move, arrays, states=True)
