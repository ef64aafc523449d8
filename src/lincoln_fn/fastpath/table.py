"""The table of faster functions, one row for each layer, and `fast`, which applies it."""

from __future__ import annotations

from types import ModuleType
from typing import Final

from lincoln_fn.core import Layer, checked, file_of
from lincoln_fn.fastpath import (
    activations,
    attention,
    batch_norm,
    convolution,
    dense,
    embedding,
    linear_scan,
    lstm,
    normalisation,
    pooling,
)
from lincoln_fn.fastpath.experts import give_own_tokens
from lincoln_fn.fastpath.rearranged import rearrange
from lincoln_fn.fastpath.twin import Twin
from lincoln_fn.walk.internal import map_paths

TWINS: Final[tuple[Twin, ...]] = (
    *activations.TWINS, *attention.TWINS, *batch_norm.TWINS, *convolution.TWINS, *dense.TWINS,
    *embedding.TWINS, *linear_scan.TWINS, *lstm.TWINS, *normalisation.TWINS, *pooling.TWINS,
)  # fmt: skip
_BY_FILE: Final[dict[ModuleType | None, Twin]] = {twin.formula: twin for twin in TWINS}


@checked
def fast(net: Layer) -> Layer:
    """Make the same network of faster functions: the same params, y, dx and dparams.

    `make_step`, `fit` and `compile` call it by themselves, unless told `fast=False`. A layer whose
    functions are a user's own stays as it is.

    Returns:
        The network, whose caches may hold other tensors than those of net.

    Example:
        >>> net = lf.serial(lf.dense(10), lf.relu())
        >>> fast(net)
        serial(dense(10), relu())
    """
    return map_paths(lambda layer, path: give_own_tokens(layer), fast_by_example(net))


def fast_by_example(net: Layer) -> Layer:
    """Make the network of faster functions in which each part still gets all examples."""
    return _faster(rearrange(net))


def _faster(layer: Layer) -> Layer:
    if layer.composition is not None:
        return layer.rebuild(tuple(map(_faster, layer.parts)))
    twin = _BY_FILE.get(file_of(layer))
    return layer if twin is None else twin.faster(layer)
