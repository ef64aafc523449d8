"""A layer that is used but not trained."""

from __future__ import annotations

from lincoln_fn.combine.parts import is_still, placed_parts
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.record import State, record
from lincoln_fn.shapes import check_params


@record
class FrozenParams(State):
    """The parameters of a frozen layer, which are carried like a state: no optimizer sees them."""

    params: Params


def frozen(layer: Layer) -> Layer:
    """Use a layer without training it.

    Its parameters count as a state, so no gradient of them is ever computed: `backward` computes dx
    alone, `grads` nothing at all. Running statistics and keys still advance.

    Args:
        layer: the layer.

    Returns:
        The layer, whose params are `FrozenParams` of the layer's own.

    Raises:
        LayerError: from its functions, if the layer raises one, or params are not frozen.

    Example:
        >>> net = lf.serial(frozen(lf.dense(5)), lf.relu(), lf.dense(2))
        >>> lf.tree.paths(net.init(lf.Key(0), torch.zeros(1, 3)))
        ['2.weight', '2.bias']
    """
    (part,) = placed_parts("frozen", (layer,))

    def init(key: Key, x: Arrays) -> FrozenParams:
        return FrozenParams(part.init(key, x))

    def forward(params: FrozenParams, x: Arrays) -> tuple[Arrays, Cache]:
        check_params("frozen", params, FrozenParams)
        return part.forward(params.params, x)

    def backward(params: FrozenParams, cache: Cache, g: Arrays) -> tuple[Arrays, FrozenParams]:
        return input_grad(params, cache, g), params

    def predict(params: FrozenParams, x: Arrays) -> Arrays:
        check_params("frozen", params, FrozenParams)
        return part.predict(params.params, x)

    def input_grad(params: FrozenParams, cache: Cache, g: Arrays) -> Arrays:
        check_params("frozen", params, FrozenParams)
        return part.input_grad(params.params, cache, g)

    def grads(params: FrozenParams, cache: Cache, g: Arrays) -> FrozenParams:
        check_params("frozen", params, FrozenParams)
        return params

    def advance(params: FrozenParams, cache: Cache) -> FrozenParams:
        check_params("frozen", params, FrozenParams)
        return FrozenParams(part.advance(params.params, cache))

    return Layer(
        f"frozen({layer.name})",
        forward,
        backward,
        init,
        predict,
        input_grad,
        grads,
        unchanged if is_still((layer,)) else advance,
        empties_cache=layer.empties_cache,
        parts=(layer,),
        rebuild=lambda new_parts: frozen(*new_parts),
    )
