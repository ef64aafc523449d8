"""The layers that have matrices, which a rule may replace on the way back.

A matrix is a trained tensor with two axes or more in a layer that multiplies by it: dense,
convolution, bilinear and recurrent layers, and attention. Biases have one axis. The parameters of a
norm do not mix the features of x, and an embedding passes nothing back, so these have no matrices
here. Attention is a composition, but counts as one layer: its params hold the matrices of its four
projections.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, TypeAlias

from torch import Tensor

from lincoln_fn.core import Layer, LayerError, Params, kind_of, tree
from lincoln_fn.initializers import Fans
from lincoln_fn.layers import multi_head_attention
from lincoln_fn.walk.internal import composition_of

Selector: TypeAlias = Callable[[Layer], bool]

# Kinds of layers that multiply by matrices of their own.
_KINDS: Final = ("dense", "convolution", "bilinear", "recurrent")


def has_matrices(layer: Layer) -> bool:
    """Return whether a layer, or a part of it, is one that multiplies by matrices.

    These are dense, convolutional, bilinear and recurrent layers, and attention.

    Example:
        >>> [has_matrices(layer) for layer in (lf.gru(3), lf.batch_norm(), lf.serial(lf.dense(2)))]
        [True, False, True]
    """
    if is_one_layer(layer):
        return layer.composition is not None or kind_of(layer) in _KINDS
    return any(map(has_matrices, layer.parts))


def is_one_layer(layer: Layer) -> bool:
    """Return whether rules treat a layer as one: a single layer, or attention."""
    composed = composition_of(layer)
    return composed is None or composed.gather is multi_head_attention.gather


def map_chosen(rule: str, f: Callable[[Layer], Layer], net: Layer, layers: Selector) -> Layer:
    """Replace every layer that a selector takes, of those that rules treat as one."""
    chosen: list[Layer] = []

    def visit(layer: Layer) -> Layer:
        if not is_one_layer(layer):
            return layer.rebuild(tuple(map(visit, layer.parts)))
        if not layers(layer):
            return layer
        chosen.append(layer)
        return f(layer)

    network = visit(net)
    if not chosen:
        raise no_matrices(rule, net)
    return network


def no_matrices(rule: str, net: Layer) -> LayerError:
    """Make the error about a network in which a rule has nothing to replace."""
    problem = f"expected a layer with matrices, got {net}"
    return LayerError(rule, f"{problem}; name your own layers by `layers=`")


def matrices(params: Params) -> tuple[Tensor, ...]:
    """List the matrices of one layer."""
    return tuple(leaf for leaf in tree.leaves(params) if leaf.ndim > 1)


def with_matrices(params: Params, others: tuple[Tensor, ...]) -> Params:
    """Return one layer's params with other matrices in the places of its own."""
    remaining = iter(others)
    return tree.map(lambda leaf: next(remaining) if leaf.ndim > 1 else leaf, params)


def fans_of(matrix: Tensor) -> Fans:
    """Return the fans of a matrix (n_in, n_out), or of kernels (n_out, n_in, *kernel)."""
    if matrix.ndim == 2:
        return Fans(*matrix.shape)
    n_out, n_in, *kernel = matrix.shape
    size = math.prod(kernel)
    return Fans(n_in * size, n_out * size)
