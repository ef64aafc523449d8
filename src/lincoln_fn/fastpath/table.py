"""The table of faster functions, one row a layer, and `fast`, which applies it to a network."""

from __future__ import annotations

from typing import Final

from lincoln_fn.fastpath.rearranged import rearranged
from lincoln_fn.fastpath.twin import Function, Twin
from lincoln_fn.layer import Layer, map_layers

TWINS: Final[tuple[Twin, ...]] = ()
_BY_FORWARD: Final[dict[Function, Twin]] = {twin.formula.forward: twin for twin in TWINS}


def fast(net: Layer) -> Layer:
    """Make the same network of faster functions: the same params, y, dx and dparams.

    `make_step`, `fit` and `compile` call it by themselves, unless told `fast=False`. A layer whose
    functions are a user's own stays as it is.

    Args:
        net: the network.

    Returns:
        The network, whose caches may hold other tensors than those of net.

    Example:
        >>> net = lf.serial(lf.dense(10), lf.relu())
        >>> fast(net)
        serial(dense(10), relu())
    """
    return map_layers(_faster, rearranged(net))


def _faster(layer: Layer) -> Layer:
    twin = _BY_FORWARD.get(getattr(layer.forward, "func", layer.forward))
    return twin.of(layer) if twin is not None and twin.matches(layer) else layer
