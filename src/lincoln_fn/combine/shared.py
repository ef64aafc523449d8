"""One layer for several inputs."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial, reduce

import torch

from lincoln_fn import tree
from lincoln_fn.combine.parts import check_entries, is_still, placed_parts
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.record import brief
from lincoln_fn.shapes import LayerError


def shared(layer: Layer) -> Layer:
    """Use one layer, with one set of parameters, on each entry of a tuple: y_i = layer(x_i).

    Derivation. The parameters enter every y_i, so dparams = sum_i dparams_i; dx_i is what the layer
    makes of g_i. State moves on from each input to the next, so dropout draws them different masks.

    Args:
        layer: the layer.

    Returns:
        The layer. Its x, y, caches and dx are tuples with one entry an input; its params are the
        layer's own.

    Raises:
        LayerError: from its functions, if the layer raises one, or x is no tuple with an entry.

    Example:
        >>> shared(lf.relu()).predict((), (torch.tensor([-1.0]), torch.tensor([2.0])))
        (tensor([0.]), tensor([2.]))
    """
    (part,) = placed_parts("shared", (layer,))

    def init(key: Key, x: Arrays) -> Params:
        check_inputs(x)
        return part.init(key, x[0])

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Cache]:
        check_inputs(x)
        ys, caches = [], []
        for x_i in x:
            y, cache = part.forward(params, x_i)
            params = part.advance(params, cache)
            ys.append(y)
            caches.append(cache)
        return tuple(ys), tuple(caches)

    def backward(params: Params, cache: Cache, g: Arrays) -> tuple[Arrays, Params]:
        pairs = [part.backward(*arguments) for arguments in uses(params, cache, g)]
        return tuple(dx for dx, _ in pairs), _sum([dparams for _, dparams in pairs])

    def predict(params: Params, x: Arrays) -> Arrays:
        check_inputs(x)
        return tuple(part.predict(params, x_i) for x_i in x)

    def input_grad(params: Params, cache: Cache, g: Arrays) -> Arrays:
        return tuple(part.input_grad(*arguments) for arguments in uses(params, cache, g))

    def grads(params: Params, cache: Cache, g: Arrays) -> Params:
        return _sum([part.grads(*arguments) for arguments in uses(params, cache, g)])

    def advance(params: Params, cache: Cache) -> Params:
        return reduce(part.advance, cache, params)

    def uses(params: Params, cache: Cache, g: Arrays) -> Iterator[tuple[Params, Cache, Arrays]]:
        """Give each use of the layer with the params that its forward was given."""
        check_entries("shared", "g", g, len(cache))
        for cache_i, g_i in zip(cache, g, strict=True):
            yield params, cache_i, g_i
            params = part.advance(params, cache_i)

    def check_inputs(x: object) -> None:
        if type(x) is not tuple or not x:
            raise LayerError("shared", f"expected x to be a tuple of inputs, got {brief(x)}")

    return Layer(
        f"shared({layer.name})",
        forward,
        backward,
        init,
        predict,
        input_grad,
        grads,
        unchanged if is_still((layer,)) else advance,
        parts=(layer,),
        rebuild=lambda new_parts: shared(*new_parts),
    )


def _sum(trees: list[Params]) -> Params:
    return reduce(partial(tree.map, torch.add), trees)
