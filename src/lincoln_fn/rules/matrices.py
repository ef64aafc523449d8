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
from typing import Any, Final, TypeAlias

from torch import Tensor

from lincoln_fn import tree
from lincoln_fn.initializers import Fans
from lincoln_fn.layer import Layer, Params, unbound
from lincoln_fn.layers import (
    bilinear,
    conv,
    conv_transpose,
    dense,
    gru,
    lstm,
    recurrent_cell,
    rnn,
)
from lincoln_fn.layers._attention_forms import NAME as ATTENTION

Selector: TypeAlias = Callable[[Layer], bool]

# By `init`, which `lf.fast` keeps, or by `forward`, for a layer whose size follows from its input.
# Any: the functions of every layer.
_FUNCTIONS: Final[frozenset[Callable[..., Any]]] = frozenset(
    function
    for layer in (bilinear, conv, conv_transpose, dense, gru, lstm, recurrent_cell, rnn)
    for function in (layer.init, layer.forward)
)


def has_matrices(layer: Layer) -> bool:
    """Return whether a layer, or a part of it, is one that multiplies by matrices.

    These are dense, convolutional, bilinear and recurrent layers, and attention.

    Args:
        layer: the layer.

    Returns:
        False for any other layer of the library, and for a layer of your own.

    Example:
        >>> [has_matrices(layer) for layer in (lf.gru(3), lf.batch_norm(), lf.serial(lf.dense(2)))]
        [True, False, True]
    """
    if is_one_layer(layer):
        functions = {unbound(layer.init), unbound(layer.forward)}
        return layer.composition is not None or not functions.isdisjoint(_FUNCTIONS)
    return any(map(has_matrices, layer.parts))


def is_one_layer(layer: Layer) -> bool:
    """Return whether rules treat a layer as one: a single layer, or attention.

    Example:
        >>> [is_one_layer(layer) for layer in (lf.tanh(), lf.multi_head_attention(2), lf.serial())]
        [True, True, False]
    """
    made = layer.composition
    return made is None or made.label == ATTENTION


def map_one_layers(f: Callable[[Layer], Layer], net: Layer) -> Layer:
    """Replace every layer that rules treat as one.

    Example:
        >>> map_one_layers(lambda layer: lf.tanh(), lf.serial(lf.multi_head_attention(2)))
        serial(tanh())
    """
    if is_one_layer(net):
        return f(net)
    return net.rebuild(tuple(map_one_layers(f, part) for part in net.parts))


def matrices(params: Params) -> tuple[Tensor, ...]:
    """List the matrices of one layer.

    Example:
        >>> matrices(lf.dense(2).init(lf.Key(0), torch.zeros(1, 3)))[0].shape
        torch.Size([3, 2])
    """
    return tuple(leaf for leaf in tree.leaves(params) if leaf.ndim > 1)


def with_matrices(params: Params, others: tuple[Tensor, ...]) -> Params:
    """Return one layer's params with other matrices in the places of its own.

    Example:
        >>> params = lf.dense(2).init(lf.Key(0), torch.zeros(1, 3))
        >>> with_matrices(params, (torch.ones(3, 2),)).weight[0]
        tensor([1., 1.])
    """
    remaining = iter(others)
    return tree.map(lambda leaf: next(remaining) if leaf.ndim > 1 else leaf, params)


def fans_of(matrix: Tensor) -> Fans:
    """Return the fans of a matrix (n_in, n_out), or of kernels (n_out, n_in, *kernel).

    Example:
        >>> fans_of(torch.zeros(6, 4, 3, 3))
        Fans(n_in=36, n_out=54)
    """
    if matrix.ndim == 2:
        return Fans(*matrix.shape)
    n_out, n_in, *kernel = matrix.shape
    size = math.prod(kernel)
    return Fans(n_in * size, n_out * size)
