"""A layer that keeps its input alone, and runs again when its cache is needed."""

from __future__ import annotations

from lincoln_fn import tree
from lincoln_fn.combine.parts import is_still, owned, placed_parts
from lincoln_fn.keys import Key
from lincoln_fn.layer import Arrays, Cache, Layer, Params, unchanged
from lincoln_fn.record import record
from lincoln_fn.shapes import check_cache


@record
class Kept:
    """The input, and the params with the states advanced (None if the layer carries none).

    The trained tensors in `advanced` are the caller's own, so it costs no more than its states.
    """

    x: Arrays
    advanced: Params


def checkpointed(layer: Layer) -> Layer:
    """Trade time for memory: keep x alone, and run forward again within backward.

    `forward` is pure, so running it again with the same params gives the same cache, with the same
    dropout masks, whatever happened in between. (Chen et al., "Training Deep Nets with Sublinear
    Memory Cost", 2016.)

    Args:
        layer: the layer, such as a block of several in a deep network.

    Returns:
        The layer, whose params are the layer's own.

    Raises:
        LayerError: from its functions, if the layer raises one, or the cache is another's.

    Example:
        >>> checkpointed(lf.tanh()).forward((), torch.zeros(2))[1]
        Kept(x=float32[2], advanced=None)
    """
    (part,) = placed_parts("checkpointed", (layer,))
    still = is_still((layer,))

    def init(key: Key, x: Arrays) -> Params:
        return part.init(key, x)

    def forward(params: Params, x: Arrays) -> tuple[Arrays, Kept]:
        y, cache = part.forward(params, x)
        return y, Kept(x, None if still else part.advance(params, cache))

    def backward(params: Params, cache: Kept, g: Arrays) -> tuple[Arrays, Params]:
        return part.backward(params, again(params, cache), g)

    def input_grad(params: Params, cache: Kept, g: Arrays) -> Arrays:
        return part.input_grad(params, again(params, cache), g)

    def grads(params: Params, cache: Kept, g: Arrays) -> Params:
        return part.grads(params, again(params, cache), g)

    def advance(params: Params, cache: Kept) -> Params:
        check_cache("checkpointed", cache, Kept)
        return tree.map(lambda _, trained: trained, cache.advanced, params)

    def again(params: Params, cache: Kept) -> Cache:
        check_cache("checkpointed", cache, Kept)
        return owned(part, part.forward(params, cache.x)[1])

    return Layer(
        f"checkpointed({layer.name})",
        forward,
        backward,
        init,
        part.predict,
        input_grad,
        grads,
        unchanged if still else advance,
        parts=(layer,),
        rebuild=lambda new_parts: checkpointed(*new_parts),
    )
