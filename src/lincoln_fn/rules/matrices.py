"""The layers that have matrices, which a rule may replace on the way back.

A matrix is a trained tensor with two axes or more in a layer that multiplies by it: dense,
convolution, bilinear and recurrent layers. Biases have one axis. The parameters of a norm do not
mix the features of x, and an embedding passes nothing back, so these have no matrices here. Nor
have the projections inside attention, whose params are attention's own.
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

Selector: TypeAlias = Callable[[Layer], bool]

# By `init`, which `lf.fast` keeps. Any: the functions of every layer.
_INITS: Final[frozenset[Callable[..., Any]]] = frozenset(
    layer.init for layer in (bilinear, conv, conv_transpose, dense, gru, lstm, recurrent_cell, rnn)
)


def has_matrices(layer: Layer) -> bool:
    """Return whether a layer, or a part of it, is dense, convolutional, bilinear or recurrent.

    Args:
        layer: the layer.

    Returns:
        False for any other layer of the library, and for a layer of your own.

    Example:
        >>> [has_matrices(layer) for layer in (lf.gru(3), lf.batch_norm(), lf.serial(lf.dense(2)))]
        [True, False, True]
    """
    if layer.composition is None:
        return unbound(layer.init) in _INITS
    return any(map(has_matrices, layer.parts))


def matrices(params: Params) -> tuple[Tensor, ...]:
    """List the matrices of a single layer.

    Example:
        >>> matrices(lf.dense(2).init(lf.Key(0), torch.zeros(1, 3)))[0].shape
        torch.Size([3, 2])
    """
    return tuple(leaf for leaf in tree.leaves(params) if leaf.ndim > 1)


def with_matrices(params: Params, others: tuple[Tensor, ...]) -> Params:
    """Return a single layer's params with other matrices in the places of its own.

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
