"""The backward walk of a training step, which owns its caches."""

from __future__ import annotations

from typing import Final

from lincoln_fn.layer import Arrays, Cache, Layer, Params
from lincoln_fn.walk.composition import Composition
from lincoln_fn.walk.walks import BackWalker, Wants


def gradients(net: Layer, params: Params, cache: Cache, g: Arrays) -> Params:
    """Compute dparams, as `net.grads` does, from a cache without other references.

    Each part's cache is freed as soon as the walk has passed the part, if the caller keeps no
    reference to it.

    Args:
        net: the network.
        params: those given to `forward`.
        cache: what `forward` returned, or `lincoln_fn.walk.parts.owned` of it.
        g: dL/dy.

    Returns:
        dparams.

    Raises:
        LayerError: as `grads` does.

    Example:
        >>> net, x = lf.dense(2), torch.ones(1, 3)
        >>> params = net.init(lf.Key(0), x)
        >>> gradients(net, params, net.forward(params, x)[1], torch.ones(1, 2)).bias
        tensor([1., 1.])
    """
    return _GRADIENTS.run(net, "", params, cache, g, _DPARAMS)[1]


_DPARAMS: Final = Wants(dx=False, dparams=True)


def _halves(
    layer: Layer, path: str, params: Params, cache: Cache, g: Arrays, wants: Wants
) -> tuple[Arrays, Params]:
    if not wants.dparams:
        return layer.input_grad(params, cache, g), None
    if not wants.dx:
        return None, layer.grads(params, cache, g)
    return layer.backward(params, cache, g)


def _unchanged(layer: Layer, path: str, params: Params) -> Params:
    return params


_GRADIENTS: Final = BackWalker(
    _halves, skip=_unchanged, owns_cache=True, gather=Composition.gathered
)
