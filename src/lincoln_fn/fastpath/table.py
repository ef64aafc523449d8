"""The table of faster functions, one row a layer, and `fast`, which applies it to a network."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from lincoln_fn._kinds import check_kinds
from lincoln_fn.fastpath import (
    activations,
    adaptive_pooling,
    attention,
    batch_norm,
    by_running,
    convolution,
    dense,
    embedding,
    normalisation,
    padding,
    pooling,
    recurrent,
    upsample,
)
from lincoln_fn.fastpath.rearranged import rearranged
from lincoln_fn.fastpath.twin import Function, Twin
from lincoln_fn.layer import Layer, unbound
from lincoln_fn.layers import multi_head_attention

TWINS: Final[tuple[Twin, ...]] = (
    *activations.TWINS,
    *adaptive_pooling.TWINS,
    *attention.TWINS,
    *batch_norm.TWINS,
    *by_running.TWINS,
    *convolution.TWINS,
    *dense.TWINS,
    *embedding.TWINS,
    *normalisation.TWINS,
    *padding.TWINS,
    *pooling.TWINS,
    *recurrent.TWINS,
    *upsample.TWINS,
)
_BY_FORWARD: Final[dict[Function, Twin]] = {twin.formula.forward: twin for twin in TWINS}
# Compositions that have a faster form as a whole, by their loop `there`.
_FUSED: Final[dict[Function, Callable[[Layer], Layer | None]]] = {
    multi_head_attention.there: attention.fused
}


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
    check_kinds("fast", net=(net, Layer))
    return _faster(rearranged(net))


def _faster(layer: Layer) -> Layer:
    made = layer.composition
    if made is not None:
        fuse = _FUSED.get(unbound(made.there))
        whole = None if fuse is None else fuse(layer)
        return layer.rebuild(tuple(map(_faster, layer.parts))) if whole is None else whole
    twin = _BY_FORWARD.get(unbound(layer.forward))
    return twin.of(layer) if twin is not None and twin.matches(layer) else layer
