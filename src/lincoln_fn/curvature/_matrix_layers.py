"""Layers that multiply rows by a matrix: dense and convolution.

With the rows t of example n, such as the positions of a sequence or an image,

    y_(nt) = x_(nt) W + b
    dW = sum_(n,t) x_(nt)^T g_(nt)        db = sum_(n,t) g_(nt)

A convolution's row is what the kernel sees at one position. In its weight the outputs are on axis
0, so that dW is transposed.
"""

from __future__ import annotations

from typing import Final

import attrs
from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import unfold

from lincoln_fn.fastpath import convolution as fast_conv
from lincoln_fn.fastpath import dense as fast_dense
from lincoln_fn.layer import Cache, Layer, Params
from lincoln_fn.layers import conv, dense
from lincoln_fn.per_example.checks import check_rows
from lincoln_fn.per_example.convolution import Correlation
from lincoln_fn.per_example.products import by_example
from lincoln_fn.per_example.table import TERMS, key_of

_DENSE: Final = (dense.grads, fast_dense.grads)
_CONV: Final = (conv.grads, fast_conv.grads)


@attrs.frozen(eq=False)
class Rows:
    """The rows of one use of a layer's weight."""

    x: Float[Tensor, "N T I"]
    g: Float[Tensor, "K N T O"]
    inputs_first: bool


def is_dense(layer: Layer) -> bool:
    """Return whether a layer is a dense one, by the formula or fast."""
    return key_of(layer) in _DENSE


def rows_of(layer: Layer, params: Params, cache: Cache, g: Float[Tensor, "K N *s"]) -> Rows | None:
    """Return the rows of x and of g, for K cotangents; None for any other layer."""
    key = key_of(layer)
    if key in _DENSE:
        check_rows(layer.name, g[0])
        rows = g.flatten(2, -2) if g.ndim > 3 else g.unsqueeze(2)
        return Rows(by_example(cache), rows, inputs_first=True)
    if key in _CONV:
        term = TERMS[key](params, cache, g[0]).weight
        assert isinstance(term, Correlation)
        if term.geometry.groups == 1:
            return Rows(_windows(term), g.flatten(3).mT, inputs_first=False)
    return None


def _windows(term: Correlation) -> Float[Tensor, "N positions window"]:
    """Put what the kernel sees at each position into a row."""
    (stride, dilation, _), kernel = term.geometry, term.shape[2:]
    if len(kernel) != 2:
        return term.windows()
    return unfold(term.x, kernel, dilation, 0, stride).mT  # torch's kernel, for planes alone
