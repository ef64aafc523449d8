"""One input to several layers, and their outputs merged into one."""

from __future__ import annotations

from functools import partial, reduce

import torch

from lincoln_fn import tree
from lincoln_fn.combine.parallel import side_by_side
from lincoln_fn.combine.parts import check_entries, placed_parts, taken
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.nn.merge import add, identity


def branch(*layers: Layer, merge: Layer | None = None) -> Layer:
    """Give one input to several layers, and merge their outputs: y = merge(layer_1(x), ...).

    Derivation. The merge layer makes of g one g_i for each branch, and branch i makes of it dx_i.
    x enters through every branch, so dx = sum_i dx_i.

    Args:
        *layers: the branches, at least one.
        merge: a layer without parameters, from a tuple to one output: `add()`, which is the
            default, `multiply()`, `concatenate(dim)`, or one of your own.

    Returns:
        The layer. Its params and dparams are tuples with one entry a branch.

    Raises:
        ValueError: if there is no branch.
        LayerError: from its functions, if a part raises one, or the outputs do not fit together.

    Example:
        >>> net = branch(lf.relu(), lf.identity(), merge=lf.multiply())
        >>> net.predict(((), ()), torch.tensor([-2.0, 3.0]))
        tensor([-0., 9.])
    """
    merge = add() if merge is None else merge
    shown = [layer.name for layer in layers]
    shown += [] if merge.name == "add()" else [f"merge={merge.name}"]
    return _merged("branch", layers, merge).replace(
        name=f"branch({', '.join(shown)})",
        parts=(*layers, merge),
        rebuild=lambda new_parts: branch(*new_parts[:-1], merge=new_parts[-1]),
    )


def residual(layer: Layer, shortcut: Layer | None = None) -> Layer:
    """Add a layer's output to its input: y = layer(x) + x, or + shortcut(x).

    Derivation. dx = (what layer makes of g) + g, the second term through the shortcut if any.

    Args:
        layer: whose output has x's shape, or the shortcut's output's.
        shortcut: another way for x, such as a projection; None leaves x as it is.

    Returns:
        The layer: `branch(layer, shortcut)`. Its params are (layer's, shortcut's).

    Raises:
        LayerError: from its functions, if a part raises one, or the shapes do not fit together.

    Example:
        >>> residual(lf.relu()).predict(((), ()), torch.tensor([-2.0, 3.0]))
        tensor([-2.,  6.])
    """
    shown = layer.name if shortcut is None else f"{layer.name}, {shortcut.name}"
    ways = (layer, identity() if shortcut is None else shortcut)
    return _merged("residual", ways, add()).replace(
        name=f"residual({shown})",
        parts=(layer,) if shortcut is None else ways,
        rebuild=lambda new_parts: residual(*new_parts),
    )


def _merged(combinator: str, layers: tuple[Layer, ...], merge: Layer) -> Layer:
    if not layers:
        raise ValueError(f"{combinator}: expected at least one layer, got none")
    ways = side_by_side(combinator, layers)
    (join,) = placed_parts(f"{combinator} merge", (merge,))
    count = len(layers)

    def init(key: Key, x: Arrays) -> Params:
        return ways.init(key, (x,) * count)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        ys, cache = ways.forward(params, (x,) * count)
        y, join_cache = join.forward((), ys)
        return y, (cache, join_cache)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        gs = split(cache, g)
        dxs, dparams = ways.backward(params, taken(ways, cache, 0), gs)
        return _sum(dxs), dparams

    def predict(params: Params, x: Arrays) -> Arrays:
        return join.predict((), ways.predict(params, (x,) * count))

    def input_grad(params: Params, cache: Cache, g: Arrays) -> Arrays:
        gs = split(cache, g)
        return _sum(ways.input_grad(params, taken(ways, cache, 0), gs))

    def grads(params: Params, cache: Cache, g: Arrays) -> Params:
        gs = split(cache, g)
        return ways.grads(params, taken(ways, cache, 0), gs)

    def advance(params: Params, cache: Cache) -> Params:
        check_entries(combinator, "the cache", cache, 2)
        return ways.advance(params, cache[0])

    def split(cache: Cache, g: Arrays) -> tuple[Arrays, ...]:
        check_entries(combinator, "the cache", cache, 2)
        gs: tuple[Arrays, ...] = join.input_grad((), taken(join, cache, 1), g)
        return gs

    still = ways.advance is unchanged
    return Layer(
        combinator,
        forward,
        backward,
        init,
        predict,
        input_grad,
        grads,
        unchanged if still else advance,
        empties_cache=True,
    )


def _sum(dxs: tuple[Arrays, ...]) -> Arrays:
    return reduce(partial(tree.map, torch.add), dxs)
