"""Params of parts that run one after the other, each made from the output of the part before it.

Outputs are found on `meta`. The `init` of each composition around a part asks for its output again,
so it is kept until the outermost one ends: without this, the work is quadratic in the depth.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final, TypeAlias, TypeVar

import optree
from torch import Tensor

from lincoln_fn.core import EVERYTHING, Arrays, Key, Layer, Params, tree
from lincoln_fn.runtime import defer_compiler, make_cache_folder
from lincoln_fn.walk.parts import Placed

T = TypeVar("T")
# By what a thing was found of: what has to live as long, so that its id stays its own, and the
# thing: a tensor on `meta`, or an output.
Found: TypeAlias = dict[object, tuple[object, Arrays]]
_FOUND: Final[ContextVar[Found | None]] = ContextVar("_FOUND", default=None)


@contextmanager
def remembering() -> Iterator[None]:
    """Keep what is found on `meta`, if nobody further out does."""
    if _FOUND.get() is not None:
        yield
        return
    token = _FOUND.set({})
    try:
        yield
    finally:
        _FOUND.reset(token)


def init_in_turn(parts: tuple[Layer, ...], key: Key, x: Arrays) -> Params:
    """Make the params of each part from the output of the part before it."""
    return init_with_outputs(parts, key, x)[0]


def init_with_outputs(
    parts: tuple[Layer, ...], key: Key, x: Arrays
) -> tuple[Params, tuple[Arrays, ...]]:
    """Make the params of parts that run one after the other, and return their outputs, too."""
    # Each part has a key of its own.
    made: list[Params] = []
    outputs: list[Arrays] = []
    for i, part in enumerate(parts):
        made.append(part.init(key.fold_in(i), x))
        x = output_of(part, made[i], x)
        outputs.append(x)
    return tuple(made), tuple(outputs)


def output_of(part: Layer, params: Params, x: Arrays) -> Arrays:
    """Find the output of a part on `meta`."""
    return recall(part.predict, on_meta(params), on_meta(x))


def recall(predict: Callable[[Params, Arrays], Arrays], params: Params, x: Arrays) -> Arrays:
    """Compute an output; on `meta`, within an `init`, only once for the same params and shapes."""
    found = _FOUND.get()
    if found is None:
        return predict(params, x)
    leaves, form = tree.leaves(params, states=True), optree.tree_flatten(x, namespace=EVERYTHING)
    if not all(isinstance(leaf, Tensor) and leaf.is_meta for leaf in (*leaves, *form[0])):
        return predict(params, x)
    shapes = ((leaf.shape, leaf.stride(), leaf.dtype) for leaf in form[0])
    function = predict.function if isinstance(predict, Placed) else predict
    key = (id(function), *map(id, leaves), *shapes, form[1])
    if key not in found:
        found[key] = (predict, params), predict(params, x)
    return found[key][1]


def on_meta(arrays: T) -> T:
    """Move a tree of tensors to the device `meta`, where they have shapes and no values."""
    defer_compiler()
    make_cache_folder()
    return tree.map(_move, arrays, states=True)


# Other values than tensors are left unchanged, and the layer refuses them.
def _move(leaf: object) -> object:
    if not isinstance(leaf, Tensor) or leaf.is_meta:
        return leaf
    found = _FOUND.get()
    if found is None:
        return leaf.to("meta")
    if id(leaf) not in found:
        found[id(leaf)] = leaf, leaf.to("meta")
    return found[id(leaf)][1]
