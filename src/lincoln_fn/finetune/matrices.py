"""The layers whose matrix can be read: dense, and dense of few bits."""

from __future__ import annotations

from torch import Tensor

from lincoln_fn.core.layer import Layer, Params
from lincoln_fn.finetune import quantized_dense
from lincoln_fn.layers import dense


def has_matrix(params: Params) -> bool:
    """Return whether params are those of a dense layer, of any number of bits."""
    return isinstance(params, dense.Params | quantized_dense.Params)


def sizes_of(params: Params) -> tuple[int, int]:
    """Return the numbers of features of x and of y."""
    n_in, n_out = params.weight.shape if isinstance(params, dense.Params) else params.shape
    return n_in, n_out


def read_matrix(params: Params) -> Tensor:
    """Return W, of shape (n_in, n_out)."""
    if isinstance(params, dense.Params):
        return params.weight
    return quantized_dense.dequantize(params)


def dense_like(params: Params) -> Layer:
    """Make a dense layer of the sizes of one of any number of bits."""
    return dense.dense(sizes_of(params)[1], bias=params.bias is not None)
