"""Params of parts that run one after the other, each made from the output of the part before it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias, TypeVar

import attrs
from torch import Tensor

from lincoln_fn.core import Arrays, Init, Key, Layer, Params, tree
from lincoln_fn.runtime import defer_compiler, make_cache_folder

T = TypeVar("T")
# Params, the same on `meta`, and the output on `meta`.
Start: TypeAlias = tuple[Params, Callable[[], Params], Callable[[], Arrays]]


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
        x = output_of(part, made[i], x)
        outputs.append(x)
    return tuple(made), tuple(outputs)


def output_of(part: Layer, params: Params, x: Arrays) -> Arrays:
    """Find the output of a part on `meta`."""
    return part.predict(params_on_meta(part, params), on_meta(x))


def params_on_meta(part: Layer, params: Params) -> Params:
    """Move the params of a part to `meta`; if it recalls its output, only once."""
    recalled = getattr(part.predict, "function", None)
    if isinstance(recalled, Recalled) and recalled.move is not None and recalled.params is params:
        return recalled.move()
    return on_meta(params)


@attrs.define(eq=False)
class Recalled:
    """The `predict` of a part that recalls the output which the part's own `init` can find.

    The `init` of a composition runs its parts on `meta`, and that of the composition around it runs
    them all again: without this, the work is quadratic in the depth.
    """

    start: Callable[[Key, Arrays], Start]
    predict: Callable[[Params, Arrays], Arrays]
    x: Arrays = None
    params: Params = None
    move: Callable[[], Params] | None = None
    find: Callable[[], Arrays] | None = None

    def init(self, key: Key, x: Arrays) -> Params:
        """Make the part's params."""
        self.params, self.move, self.find = Init(self.start)(key, x)
        self.x = on_meta(x)
        return self.params

    def __call__(self, params: Params, x: Arrays) -> Arrays:
        """Give the output for the x of `init`, or compute that for another."""
        if self.find is not None and _are_alike(x, self.x):
            return self.find()
        return self.predict(on_meta(params), x)


def _are_alike(x: Arrays, other: Arrays) -> bool:
    """Return whether two trees of tensors on `meta` are the same."""

    def form(leaf: object) -> object:
        if isinstance(leaf, Tensor) and leaf.is_meta:
            return leaf.shape, leaf.stride(), leaf.dtype
        return object()  # like nothing else

    leaves = [list(map(form, tree.leaves(each))) for each in (x, other)]
    return leaves[0] == leaves[1] and tree.same_structure(x, other)


def on_meta(arrays: T) -> T:
    """Move a tree of tensors to the device `meta`, where they have shapes and no values."""
    defer_compiler()
    make_cache_folder()

    # Other values are left unchanged, and the layer refuses them.
    def move(leaf: object) -> object:
        return leaf.to("meta") if isinstance(leaf, Tensor) else leaf

    return tree.map(move, arrays, states=True)
